"""Stand-ins for Qwen2.5 and LLaMA3: small models that can talk about a picture they are told in symbols.

A published LLM knows its language and can look things up in a long context; a stage 1 with the LLM frozen
rests on that. The miniature teaches it directly, on pictures told in symbols (`told`). This is contrived, and
docs/miniature.md says so.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from granvit.miniature.standins import SMALLEST_LLM, told
from granvit.miniature.standins.course import Course
from granvit.miniature.standins.tokenizer import build_tokenizer
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.packing import ChatFormat, segment_mask
from granvit.progress import say

# name: family, layers. The sizes grow as their namesakes do.
SHAPES = {
    "Qwen2.5-1.5B": ("qwen2", 4),
    "Qwen2.5-3B": ("qwen2", 5),
    "Qwen2.5-7B": ("qwen2", 6),
    "LLaMA3-8B": ("llama", 7),
}
WIDTH = 128
HEADS = 4
BATCH = 32
STEPS = 30_000
GROWN_STEPS = 2000
LEARNING_RATE = 2e-3
GROWN_LEARNING_RATE = 5e-4
WARMUP = 300
STORE = 300_000  # pictures; every one is drawn a few times
SOONEST = 4096  # pictures that must be there before the first step
EMBEDDING_STD = 0.1
SYMBOL_NOISE = 0.05
SYNC_EVERY = 50  # steps between two looks at the clock and at new rows


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


def answer_loss(llm: PreTrainedModel, rows: dict[str, torch.Tensor], before: int) -> torch.Tensor:
    """Mean cross-entropy of the supervised tokens of a batch of rows (`told.SHAPES`); the image begins at
    position ``before``.

    All shapes are fixed, so that a GPU can replay the step: the head is computed everywhere.
    """
    weight = llm.get_input_embeddings().weight
    text = weight.index_select(0, rows["ids"].flatten()).view(*rows["ids"].shape, -1)
    image = told.embed_symbols(weight, rows["slots"])
    image = image + SYMBOL_NOISE * torch.randn_like(image)
    hidden = llm.model(
        inputs_embeds=torch.cat([text[:, :before], image, text[:, before + told.PATCHES :]], dim=1),
        attention_mask=segment_mask(rows["segments"], rows["segments"].clamp(max=0)),
        position_ids=rows["positions"],
        use_cache=False,
    ).last_hidden_state
    logits = llm.get_output_embeddings()(hidden).flatten(0, 1).float()
    return F.cross_entropy(logits, rows["labels"].flatten(), ignore_index=told.IGNORED)


class Stepper:
    """Training steps on random rows of a store. On a GPU the whole step is captured once and replayed:
    starting the hundreds of small kernels of so small a model one by one would take most of the time."""

    def __init__(self, llm: PreTrainedModel, store: told.RowStore, before: int) -> None:
        self.llm, self.store, self.before = llm, store, before
        device = store.count.device
        self.losses = torch.zeros((), device=device)
        kernel = {"fused": True, "capturable": True} if device.type == "cuda" else {"foreach": False}
        rate = torch.zeros((), device=device)
        self.optimizer = torch.optim.AdamW(
            llm.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.95), **kernel
        )
        self.rate = self.optimizer.param_groups[0]["lr"]
        self.graph: torch.cuda.CUDAGraph | None = None

    def step(self, rate: float) -> None:
        """One step at a learning rate; ``losses`` grows by its loss."""
        self.rate.fill_(rate)
        if self.graph:
            self.graph.replay()
        else:
            self._step()

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = answer_loss(self.llm, self.store.draw(BATCH), self.before)
        loss.backward()
        nn.utils.clip_grad_norm_(self.llm.parameters(), 1.0)
        self.optimizer.step()
        self.losses += loss.detach()

    def capture(self) -> None:
        """Record a step after three that warm up, on a stream of their own as CUDA asks; all at rate zero."""
        self.rate.fill_(0.0)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self.graph = graph
        self.losses.zero_()


def pretrain(
    name: str,
    seed: int,
    feed: told.Feed,
    course: Course,
    start: Path | None = None,
    log: Path | None = None,
    device: torch.device | str = "cpu",
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, dict]:
    """Train the stand-in of ``name`` on the rows of ``feed``, from nothing or grown from the smallest one's
    folder ``start``.

    Returns it with its tokenizer and what its manifest says. Raises RuntimeError where the loss is no number.
    """
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    tokenizer = build_tokenizer(SHAPES[name][0])
    llm, peak = new_llm(name, tokenizer), LEARNING_RATE
    if start:
        spec = SimpleNamespace(path=str(start))
        grow(llm, tokenizer, load_llm(spec, torch.float32), load_tokenizer(spec))
        peak = GROWN_LEARNING_RATE
    device = torch.device(device)
    llm.to(device).train()
    store = told.RowStore(STORE, device)
    while feed.left and store.filled < SOONEST:
        for rows in feed.take(wait=True):
            store.add(rows)
    stepper = Stepper(llm, store, len(ChatFormat(tokenizer).before_image))
    if device.type == "cuda":
        stepper.capture()
    history, began = [], time.monotonic()
    for step in course:
        stepper.step(peak * course.rate)
        if (step + 1) % SYNC_EVERY == 0:
            history.append(stepper.losses.item() / SYNC_EVERY)  # waits for the device
            stepper.losses.zero_()
            if not math.isfinite(history[-1]):
                raise RuntimeError(f"stand-in {name}: the loss is {history[-1]} at step {step + 1}")
            for rows in feed.take(wait=False):
                store.add(rows)
            if len(history) % 40 == 1:
                speed = (step + 1) / (time.monotonic() - began)
                line = f"step {step + 1} | {course.done:.0%} | loss {history[-1]:.4f} | {speed:.0f} steps/s"
                say(log, f"stand-in {name} | {line} | {store.filled} pictures")
    manifest = {"llm": name, "grown_from": SMALLEST_LLM if start else None, "steps": course.step}
    manifest |= {"images": course.step * BATCH, "different_images": store.filled, "seed": seed}
    manifest |= {"final_loss": round(sum(history[-10:]) / max(1, len(history[-10:])), 4)}
    return llm.eval(), tokenizer, manifest
