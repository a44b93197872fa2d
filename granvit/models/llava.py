"""The whole model as others know it: a plain LlavaForConditionalGeneration folder, which transformers'
AutoModelForImageTextToText and AutoProcessor read without this package.

LLaVA's class is this project's model without tiling: a vision tower, one of its hidden states with or
without its class token, two linear layers with a GELU, a language model. What it cannot say is refused.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from torch import nn
from transformers import (
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from granvit.errors import GranvitError
from granvit.files import read_json, whole_folder, write_json
from granvit.models.loading import load_pretrained
from granvit.models.mllm import MLLM

IMAGE_TOKEN = "<image>"
# Chats with pictures become chats of plain texts, which the language model's own template goes on with. All
# images come first, whatever their place: the model was trained so.
FLATTENED = """\
{%- set plain = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message['content'] is string or not message['content'] -%}
{%- set plain.messages = plain.messages + [message] -%}
{%- else -%}
{%- set seen = namespace(images='', text='') -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set seen.text = seen.text + ('\\n' if seen.text else '') + part['text'] -%}
{%- else -%}
{%- set seen.images = seen.images + '<image>' -%}
{%- endif -%}
{%- endfor -%}
{%- set words = seen.images + ('\\n' if seen.images else '') + seen.text -%}
{%- set plain.messages = plain.messages + [{'role': message['role'], 'content': words}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = plain.messages -%}
"""
# LLaMA3's template trims what it writes, and no question is trimmed here: it writes marks, which give way to
# the texts.
MARKED = (
    """\
{%- set marked = namespace(messages=[], chat='') -%}
{%- for message in messages -%}
{%- set mark = '[[text ' ~ loop.index ~ ']]' -%}
{%- set marked.messages = marked.messages + [{'role': message['role'], 'content': mark}] -%}
{%- endfor -%}
{%- set messages = marked.messages -%}
{%- set written -%}
""",
    """\
{%- endset -%}
{%- set marked.chat = written -%}
{%- for message in plain.messages -%}
{%- set mark = '[[text ' ~ loop.index ~ ']]' -%}
{%- set marked.chat = marked.chat | replace(mark, message['content'] or '') -%}
{%- endfor -%}
{{- marked.chat -}}
""",
)


def save_llava(model: MLLM, folder: str | Path) -> float:
    """Write a plain LLaVA folder; returns by how much its logits differ from the model's own on a test
    picture (the largest of all differences; rounding alone).

    Raises GranvitError where LLaVA's class cannot say what the model is, or says it otherwise.
    """
    require_expressible(model)
    tokenizer, image_id = add_image_token(model.tokenizer)
    plain = make_llava(model, image_id)
    processor = make_processor(model, tokenizer)
    difference = check_equal(model, plain, processor)
    with whole_folder(folder) as staged:
        plain.save_pretrained(staged)
        name_as_published(staged, model.encoder.model.config.model_type)
        processor.save_pretrained(staged)
    return difference


def name_as_published(folder: Path, tower: str) -> None:
    """Give a vision tower's tensors the names of LLaVA's published checkpoints, where transformers now saves
    shorter ones: it reads both, other servers (vLLM) the published ones alone."""
    if tower not in ("clip_vision_model", "siglip_vision_model"):
        return

    def published(name: str) -> str:
        return re.sub(r"vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)

    for file in folder.glob("*.safetensors"):
        tensors = {published(name): tensor for name, tensor in load_file(file).items()}
        save_file(tensors, file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        content = read_json(index)
        places = {published(name): place for name, place in content["weight_map"].items()}
        write_json(index, content | {"weight_map": places}, sort_keys=False)


def require_expressible(model: MLLM) -> None:
    """Raise GranvitError, naming what it is, where LLaVA's class has no words for a part of the model."""
    if model.tiles:
        raise GranvitError(
            f"export mllm: this model sees {model.views} views of an image (tiles: {model.tiles}) and joins "
            "2x2 of their features into one (pixel shuffle); LlavaForConditionalGeneration has neither, and "
            "no other class of transformers has both with a projector of two layers. Export a model without "
            "tiling, or the encoder alone"
        )
    if model.encoder.class_tokens > 1:
        raise GranvitError(
            f"export mllm: the encoder has {model.encoder.class_tokens} tokens that are no patches; "
            "LlavaForConditionalGeneration leaves out one or none. Export the encoder alone"
        )


def add_image_token(tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedTokenizerBase, int]:
    """A copy of the tokenizer that knows the image's token and takes pictures in chats, and that token's
    id."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    tokenizer.chat_template = picture_template(tokenizer)
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # the second is what is saved
    return tokenizer, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


def picture_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template for messages whose content is a list of images and texts."""
    own, text = tokenizer.get_chat_template(), " kept \n"
    written = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
    return FLATTENED + own if text in written else FLATTENED + own.join(MARKED)


def make_llava(model: MLLM, image_id: int) -> LlavaForConditionalGeneration:
    """The same weights in LLaVA's class, in eval mode."""
    encoder, text = model.encoder, copy.deepcopy(model.llm.config)
    rows = max(model.llm.get_input_embeddings().num_embeddings, image_id + 1)
    text.vocab_size = rows
    config = LlavaConfig(
        vision_config=copy.deepcopy(encoder.model.config),
        text_config=text,
        image_token_index=image_id,
        image_seq_length=model.image_tokens,
        projector_hidden_act="gelu",
        vision_feature_layer=encoder.spec.feature_layer,
        vision_feature_select_strategy="default" if encoder.class_tokens else "full",
        tie_word_embeddings=model.llm.config.tie_word_embeddings,
    )
    plain = load_pretrained(
        LlavaForConditionalGeneration, "", "export mllm", config=config, state_dict=_weights(model, rows)
    )
    plain.generation_config = GenerationConfig(
        do_sample=False,  # what this project's answers are
        eos_token_id=model.end_ids,
        pad_token_id=model.tokenizer.pad_token_id,
        bos_token_id=model.tokenizer.bos_token_id,
    )
    return plain.eval()


def _weights(model: MLLM, rows: int) -> dict[str, torch.Tensor]:
    """All weights under LLaVA's names, tables of the vocabulary with so many ``rows``."""
    moved = {
        "model.vision_tower.": model.encoder.model.state_dict(),
        "model.multi_modal_projector.linear_1.": model.projector.up.state_dict(),
        "model.multi_modal_projector.linear_2.": model.projector.down.state_dict(),
        "model.language_model.": model.llm.model.state_dict(),
    }
    weights = {prefix + name: value for prefix, part in moved.items() for name, value in part.items()}
    embeddings = "model.language_model.embed_tokens.weight"
    weights[embeddings] = _with_rows(weights[embeddings], rows)
    if not model.llm.config.tie_word_embeddings:
        weights["lm_head.weight"] = _with_rows(model.llm.get_output_embeddings().weight, rows)
    return weights


def _with_rows(table: torch.Tensor, rows: int) -> torch.Tensor:
    """A table with so many rows. New ones are the mean of all: their logit is the mean of all logits, so that
    the largest is always another one's."""
    table = table.detach()
    if rows == len(table):
        return table
    return torch.cat([table, table.mean(0, keepdim=True).expand(rows - len(table), -1)])


def make_processor(model: MLLM, tokenizer: PreTrainedTokenizerBase) -> LlavaProcessor:
    """What shows pictures to the exported model as ``MLLM.preprocess`` does: padded to a square in the mean
    colour, resized, normalised."""
    spec = model.encoder.spec
    size, scale = {"height": spec.image_size, "width": spec.image_size}, padding_scale(spec.mean)
    images = LlavaImageProcessorPil(
        do_pad=True, do_resize=True, size=size, resample=Image.Resampling.BICUBIC,
        do_center_crop=False, crop_size=size, do_convert_rgb=True,
        do_rescale=True, rescale_factor=scale / 255,
        do_normalize=True, image_mean=[scale * value for value in spec.mean],
        image_std=[scale * value for value in spec.std],
    )  # fmt: skip
    class_tokens = model.encoder.class_tokens
    return LlavaProcessor(
        images, tokenizer, patch_size=spec.patch_size,
        vision_feature_select_strategy="default" if class_tokens else "full",
        num_additional_image_tokens=class_tokens, image_token=IMAGE_TOKEN,
        chat_template=tokenizer.chat_template,
    )  # fmt: skip


def padding_scale(mean: list[float]) -> float:
    """A factor of mean, std and pixels alike, which changes no normalised pixel, but the colour that LLaVA's
    processor pads with: it cuts 255 times the mean off, and this project rounds it.

    Raises GranvitError where no factor gives all three colours.
    """
    least, most = 0.0, float("inf")
    for value in (255 * channel for channel in mean if channel):
        least, most = max(least, round(value) / value), min(most, (round(value) + 1) / value)
    if least <= 1 < most:
        return 1.0
    if least >= most:
        raise GranvitError(
            f"export mllm: LLaVA's image processor cannot pad with the mean colour {mean} of this encoder. "
            "Export the encoder alone"
        )
    return (least + most) / 2


@torch.inference_mode()
def check_equal(model: MLLM, plain: nn.Module, processor: LlavaProcessor) -> float:
    """The largest difference between the logits of both models, over all tokens, for a question on a test
    picture that is no square. Raises GranvitError where they read another question or see another picture,
    and where more than rounding lies between the logits."""
    picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    question = "What is shown at [0.1, 0.25, 0.5, 0.75]? \n"  # some benchmarks' questions end so
    before, after = model.chat.before_image, model.chat.prompt(question)
    expected_ids = [*before, *[plain.config.image_token_id] * model.image_tokens, *after]
    try:
        given = ask(processor, [picture], question)
        problem = "" if given["input_ids"].tolist() == [expected_ids] else "other tokens"
    except (ValueError, TemplateError) as error:
        problem = str(error)
    if problem:
        raise GranvitError(
            "export mllm: the exported processor writes a question otherwise than this model was trained "
            f"on it ({problem}); nothing was written. Give {model.tokenizer.name_or_path!r} a chat template "
            "that writes a user's text as it is, or export the encoder alone"
        )
    pixels = model.encoder.normalise(model.preprocess(picture)[None].to(model.device))
    if not torch.allclose(given["pixel_values"].to(pixels), pixels, atol=1e-5):
        raise GranvitError(
            "export mllm: the exported processor shows the model another picture; nothing was written. "
            "Export the encoder alone (`granvit export encoder`)"
        )
    embed = model.llm.get_input_embeddings()
    texts = (embed(torch.tensor(ids, device=model.device))[None] for ids in (before, after))
    rows = torch.cat([next(texts), model.encode_images(pixels), next(texts)], dim=1)
    expected = model.llm(inputs_embeds=rows).logits.float()
    found = plain.to(model.device)(**{name: value.to(model.device) for name, value in given.items()})
    difference = float((found.logits[..., : expected.shape[-1]].float() - expected).abs().max())
    if difference > 1e-3 * float(expected.abs().max()):
        raise GranvitError(
            f"export mllm: the exported model's logits differ by {difference:.2g} from this model's; "
            "nothing was written. Export the encoder alone (`granvit export encoder`)"
        )
    return difference


def ask(processor: Any, pictures: list[Image.Image], question: str) -> Any:
    """A question on pictures, as the exported model takes it."""
    content = [{"type": "image", "image": picture} for picture in pictures]
    chat = [{"role": "user", "content": [*content, {"type": "text", "text": question}]}]
    return processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
