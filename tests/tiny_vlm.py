"""Vision-language models of random weights, saved as published ones are: what they say is random but can be
read, and differs from image to image.

Qwen2.5-VL is the paper's captioner; LLaVA stands beside it because its processor has no video part, so
`transformers serve` takes it where torchvision is absent.
"""

from __future__ import annotations

from pathlib import Path

import torch
from factories import SPECIAL, make_tokenizer
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

TEMPLATE = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{image}"
    "{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 4096, "bos_token_id": None, "initializer_range": 0.4,
}  # fmt: skip


def make_qwen(folder: Path) -> Path:
    """Save a Qwen2.5-VL of 2 + 2 layers."""
    tokenizer = _tokenizer(
        "<|vision_start|><|image_pad|><|vision_end|>",
        ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
    )
    config = Qwen2_5_VLConfig(
        text_config={
            **TEXT, **_ends(tokenizer), "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
            "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1], "initializer_range": 0.4,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )  # fmt: skip
    _save(folder, Qwen2_5_VLForConditionalGeneration, config, tokenizer)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return folder


def make_llava(folder: Path) -> Path:
    """Save a LLaVA of 2 + 2 layers that sees 56 x 56 pixels."""
    tokenizer = _tokenizer("<image>", ["<image>"])
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56,
        patch_size=14, initializer_range=0.4,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=Qwen2Config(**TEXT, **_ends(tokenizer), vocab_size=len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    _save(folder, LlavaForConditionalGeneration, config, tokenizer)
    images = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def _tokenizer(image: str, special: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = make_tokenizer("qwen2")
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL["qwen2"][:-1], *special]})
    tokenizer.chat_template = TEMPLATE.format(image=image)
    return tokenizer


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def _save(folder: Path, model_class: type[PreTrainedModel], config, tokenizer) -> None:
    torch.manual_seed(11)
    model = model_class(config)
    # Only tokens that begin a word, and the end: random weights say mostly broken bytes otherwise.
    words = {token for word, token in tokenizer.get_vocab().items() if word[:1] == "Ġ" and word[1:].isalpha()}
    spoken = {token for token in words if len(tokenizer.decode([token])) > 3} | {tokenizer.eos_token_id}
    model.generation_config.suppress_tokens = [t for t in range(len(tokenizer)) if t not in spoken]
    model.generation_config.exponential_decay_length_penalty = (4, 2.0)  # and it would talk without end
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
