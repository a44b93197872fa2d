"""Models of random weights and texts of exact lengths for bench_stage."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from granvit.config.loading import load_config
from granvit.miniature.world.rendering import rng_for
from granvit.models.encoders import SIGLIP, Encoder
from granvit.models.llms import load_tokenizer
from granvit.models.mllm import MLLM
from granvit.models.projector import Projector

PICTURES = 16  # different ones; every row of the mixture has a text of its own
SHAPE = (640, 480)  # px, as COCO's photographs


@dataclass(frozen=True)
class Size:
    """``encoder, llm``: what goes into the configurations; ``crops``: pixels, large and small; ``shorter``:
    texts are that much shorter than the paper's."""

    encoder: dict
    llm: dict
    crops: tuple[int, int]
    shorter: int = 1

    def texts(self) -> dict[str, tuple[int, int]]:
        """Tokens of prompt and answer (end token included) of a global caption and of a region."""
        lengths = {"caption": (30, 150), "region": (45, 20)}
        return {name: tuple(round(n / self.shorter) for n in pair) for name, pair in lengths.items()}


# google/siglip2-so400m-patch16-512 and Qwen/Qwen2.5-1.5B-Instruct, as published.
ENCODER = dict(
    hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16,
    image_size=512, patch_size=16,
)  # fmt: skip
LLM = dict(
    hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
    num_key_value_heads=2, vocab_size=151936, max_position_embeddings=32768, tie_word_embeddings=True,
)  # fmt: skip
SIZES = {
    "real": Size(ENCODER, LLM, crops=(512, 224)),
    # Their widths, few layers and words: what a CPU can check.
    "slice": Size(
        ENCODER | dict(num_hidden_layers=3, image_size=256),
        LLM | dict(num_hidden_layers=2, vocab_size=8192),
        crops=(256, 112),
    ),
    "tiny": Size(
        dict(hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=2,
             image_size=96, patch_size=8),
        dict(hidden_size=96, intermediate_size=384, num_hidden_layers=3, num_attention_heads=3,
             num_key_value_heads=1, vocab_size=2048, tie_word_embeddings=True),
        crops=(96, 40),
        shorter=6,
    ),
}  # fmt: skip


def build_model(size: Size, device: torch.device) -> MLLM:
    """Random fp32 weights, drawn on ``device``: 2 billion of them would take minutes elsewhere.

    The tokenizer is the stand-ins': its few tokens are among the LLM's many, and cost the same.
    """
    tokenizer = load_tokenizer(load_config("mini").llms["Qwen2.5-1.5B"])
    spec = SimpleNamespace(
        path="random weights", image_size=size.encoder["image_size"], patch_size=size.encoder["patch_size"],
        feature_layer=-2, mean=[0.5] * 3, std=[0.5] * 3,
    )  # fmt: skip
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    with torch.device(device):
        encoder = Encoder(SiglipVisionModel(SiglipVisionConfig(**size.encoder)), SIGLIP, spec)
        llm = Qwen2ForCausalLM(Qwen2Config(**size.llm, **special))
        projector = Projector(encoder.width, llm.config.hidden_size)
    with torch.no_grad():
        for weight in llm.parameters():
            weight.copy_(weight.bfloat16())  # as published: bf16 holds them
    return MLLM(encoder, projector, llm, tokenizer)


def make_samples(model: MLLM, size: Size, task: str, regions: tuple[int, ...], rows: int) -> Iterator[tuple]:
    """(image, question-answer pairs) of a mixture: one long pair an image and ``regions`` short ones.

    ``task``: of the short pairs; an instruction's long one is an instruction too. Words are single tokens, so
    that every text has as many tokens as ``size`` says, the chat's own pieces included.
    """
    words, texts, rng = _single_tokens(model), size.texts(), random.Random(0)
    pictures = [_picture(number) for number in range(PICTURES)]
    long_task = "instruction" if task == "instruction" else "global_caption"

    def text(kind: str) -> dict:
        prompt, answer = texts[kind]
        question = rng.choices(words, k=prompt - len(model.chat.before_answer))
        return {"question": "".join(question), "answer": "".join(rng.choices(words, k=answer - 1))}

    for row in range(rows):
        pairs = [{"task": long_task, **text("caption"), "box": None}]
        for number in range(regions[row % len(regions)]):
            box = None if task == "instruction" else _box(row, number)
            pairs.append({"task": task, **text("region"), "box": box})
        yield pictures[row % PICTURES], pairs


def _picture(number: int) -> Image.Image:
    """Coloured clouds with some grain: JPEG makes of it what it makes of a photograph."""
    rng = rng_for("bench_picture", number)
    clouds = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    clouds = np.asarray(clouds.resize(SHAPE, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = rng.normal(0, 8, clouds.shape)
    return Image.fromarray((clouds + grain).clip(0, 255).astype(np.uint8))


def _single_tokens(model: MLLM) -> list[str]:
    """Words with a space in front that are one token each, also next to each other."""
    tokenizer = model.tokenizer
    found = [tokenizer.decode([number]) for number in range(len(tokenizer))]
    return [word for word in found if word[:1] == " " and word[1:].isalpha() and word.isascii()]


def _box(row: int, number: int) -> list[float]:
    """A box of a sixth to a half of the image's sides."""
    rng = rng_for("bench_stage", row, number)
    (width, height), (w, h) = SHAPE, rng.uniform(1 / 6, 1 / 2, 2)
    x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
    return [float(side) for side in (x * width, y * height, (x + w) * width, (y + h) * height)]
