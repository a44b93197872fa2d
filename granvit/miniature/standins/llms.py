"""Stand-ins for Qwen2.5 and LLaMA3: small models that can talk about a picture they are told in symbols.

A published LLM knows its language and can look things up in a long context; a stage 1 with the LLM frozen
rests on that. The
miniature teaches it directly: the 64 image positions hold, instead of visual features, the sum of the
embeddings of the words
that describe each patch (and half of the time the patch's place as box numbers), and the questions are those
of the miniature's world, boxes in both directions. This is contrived, and docs/miniature.md says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION, bbox2caption_question, caption2bbox_question
from granvit.miniature.questions.pairs import QA
from granvit.miniature.questions.scenes import box_text
from granvit.miniature.standins import SMALLEST_LLM
from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins.tokenizer import build_tokenizer
from granvit.miniature.world.documents import Document
from granvit.miniature.world.scenes import Scene
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import token_losses
from granvit.models.packing import ChatFormat, pack
from granvit.progress import Progress

# name: family, layers. The sizes grow as their namesakes do.
SHAPES = {
    "Qwen2.5-1.5B": ("qwen2", 3),
    "Qwen2.5-3B": ("qwen2", 4),
    "Qwen2.5-7B": ("qwen2", 5),
    "LLaMA3-8B": ("llama", 6),
}
WIDTH = 128
HEADS = 4
BATCH = 8  # small: at equal images, twice the steps learn to look things up sooner
STEPS = 7000
GROWN_STEPS = 600
LEARNING_RATE = 2e-3
GROWN_LEARNING_RATE = 1e-3
WARMUP = 100
FIRST_TRUTH = 50_000  # apart from the encoders' pictures
EMBEDDING_STD = 0.1
SYMBOL_NOISE = 0.05


def new_llm(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained LLM whose attention starts as a look-up: keys equal queries, outputs undo values.

    An earlier prototype did not learn to look up by coordinates from the usual start in 90k samples.
    """
    family, layers = SHAPES[name]
    shared = dict(
        vocab_size=-(-len(tokenizer) // 8) * 8, hidden_size=WIDTH, intermediate_size=3 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0 if family == "qwen2" else
        500_000.0},
    )  # fmt: skip
    if family == "qwen2":
        llm = Qwen2ForCausalLM(Qwen2Config(**shared))
    else:
        llm = LlamaForCausalLM(LlamaConfig(**shared, attention_bias=True))
    with torch.no_grad():
        llm.get_input_embeddings().weight.normal_(0, EMBEDDING_STD)
        for layer in llm.model.layers:
            attention = layer.self_attn
            nn.init.orthogonal_(attention.q_proj.weight)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(0.1 * attention.v_proj.weight.T)
    return llm


@torch.no_grad()
def grow(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    small: PreTrainedModel,
    known: PreTrainedTokenizerFast,
) -> None:
    """Let ``llm`` begin as the trained ``small``: its layers, then layers that change nothing yet;
    embeddings go by token."""
    vocabulary = known.get_vocab()
    pairs = [(own, vocabulary[token]) for token, own in tokenizer.get_vocab().items() if token in vocabulary]
    own, theirs = (torch.tensor(column) for column in zip(*pairs, strict=True))
    llm.get_input_embeddings().weight[own] = small.get_input_embeddings().weight[theirs]
    llm.model.norm.load_state_dict(small.model.norm.state_dict())
    for layer, trained in zip(llm.model.layers, small.model.layers, strict=False):
        # Llama's output bias, zero, has no counterpart.
        layer.load_state_dict(trained.state_dict(), strict=False)
    for layer in llm.model.layers[len(small.model.layers) :]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


def questions(truth: Scene | Document, rng: np.random.Generator) -> list[QA]:
    """Up to ten question-answer pairs on one truth: regions in both directions, the caption, and the
    world's own questions."""
    scene = isinstance(truth, Scene)
    regions = [(o.caption(), o.box) for o in truth.objects] if scene else list(standin_data.printed(truth))
    pairs = []
    for index in rng.permutation(len(regions))[:2]:
        text, box = regions[index]
        place = box_text(box)
        pairs += [(bbox2caption_question(place), text), (caption2bbox_question(text), place)]
    pairs += standin_data.some_questions(truth, rng, 5)
    if rng.random() < 0.15:
        pairs.append((GLOBAL_CAPTION_QUESTION, truth.caption()))
    return pairs


class Symbols:
    """Turns the words on each patch into one embedding a patch."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.encode = cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        grid = standin_data.GRID
        self.places = [
            self.encode(f"[{i % grid / grid:g}")[:1] + self.encode(f", {i // grid / grid:g}")[:1]
            for i in range(grid * grid)
        ]

    def ids(self, truth, placed: bool) -> list[list[int]]:
        """64 lists of token ids; ``placed``: with the patch's left and top edge as box numbers."""
        symbols = standin_data.symbols(truth)
        slots = [[token for word in words for token in self.encode(f" {word}")] for words in symbols]
        return [slot + place for slot, place in zip(slots, self.places, strict=True)] if placed else slots


def embed_symbols(embedding: nn.Embedding, slots: list[list[list[int]]]) -> torch.Tensor:
    """(B images of 64 lists of ids) -> (B, 64, D): the sum of the embeddings on each patch."""
    flat = [slot for image in slots for slot in image]
    lengths = torch.tensor([len(slot) for slot in flat])
    ids = torch.tensor([token for slot in flat for token in slot])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)[:-1]])
    summed = nn.functional.embedding_bag(ids, embedding.weight, offsets, mode="sum")
    return summed.unflatten(0, (len(slots), -1))


def pretrain(
    name: str, seed: int, start: Path | None = None, log: Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, dict]:
    """Train the stand-in of ``name`` from nothing, or grown from the smallest one's folder ``start``.

    Returns it with its tokenizer and what its manifest says.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(SHAPES[name][0])
    llm, chat, symbols = new_llm(name, tokenizer), ChatFormat(tokenizer), Symbols(tokenizer)
    steps, peak = STEPS, LEARNING_RATE
    if start:
        spec = SimpleNamespace(path=str(start))
        grow(llm, tokenizer, load_llm(spec, torch.float32), load_tokenizer(spec))
        steps, peak = GROWN_STEPS, GROWN_LEARNING_RATE
    optimizer = torch.optim.AdamW(llm.parameters(), lr=peak, weight_decay=0.01, betas=(0.9, 0.95))
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    progress, recent = Progress(steps, f"stand-in {name}", "images", log, per_step=BATCH), []
    for step in range(steps):
        rate = min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + np.cos(np.pi * step / steps))
        numbers = range(FIRST_TRUTH + step * BATCH, FIRST_TRUTH + (step + 1) * BATCH)
        truths = [standin_data.make_truth(standin_data.full_index(number)) for number in numbers]
        asked = [questions(truth, rng) for truth in truths]
        packed = pack([[chat.segment(q, a) for q, a in pairs] for pairs in asked], chat, standin_data.GRID**2)
        slots = [symbols.ids(truth, placed=rng.random() < 0.5) for truth in truths]
        image = embed_symbols(llm.get_input_embeddings(), slots)
        image = image + SYMBOL_NOISE * torch.randn(image.shape, generator=generator)
        loss = token_losses(llm, image, packed).mean()
        standin_data.descend(loss, optimizer, peak * rate)
        recent = [*recent[-49:], loss.item()]
        progress.update(step + 1, loss=sum(recent) / len(recent))
    manifest = {"llm": name, "grown_from": SMALLEST_LLM if start else None, "images": steps * BATCH}
    manifest |= {"seed": seed, "final_loss": round(sum(recent) / len(recent), 4)}
    return llm.eval(), tokenizer, manifest
