"""Switches of `compute` that change how fast a model learns and how much memory it takes, not what it
learns; each is on where benchmarks/on_device.sh has measured a gain (docs/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from granvit.config.compute import RunCompute
from granvit.device import compiles_layers
from granvit.models.attention import choose_attention
from granvit.models.encoders import Encoder
from granvit.models.llms import cast_weights
from granvit.models.mllm import MLLM


def prepare_model(model: MLLM, recipe, compute: RunCompute, device: torch.device) -> None:
    """Set ``model``, which is on ``device``, up to learn ``recipe``: attention kernel, activation
    checkpointing, and a language model in bf16 where it is frozen, in fp32 where it learns. Raises
    GranvitError for an unknown attention."""
    choose_attention(model.llm, compute.attention, device)
    if compute.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    frozen = recipe.precision == "bf16" and not recipe.trains.llm
    half = compute.frozen_bf16 and frozen and fits_bf16(model.llm.parameters())
    cast_weights(model.llm, torch.bfloat16 if half else torch.float32)


@torch.no_grad()
def fits_bf16(weights: Iterable[torch.Tensor]) -> bool:
    """Whether bf16 holds ``weights`` exactly, as it does where they were published so: a frozen model then
    loses nothing, and is written as it was read."""
    return all(torch.equal(weight.bfloat16().to(weight.dtype), weight) for weight in weights)


def compile_layers(model: MLLM, teacher: Encoder | None, choice: bool | str, device: torch.device) -> None:
    """Fuse what stands between the matrix products of each layer (torch.compile), and the head with its loss,
    where ``choice`` (true, false or auto) says so for ``device``.

    Layers are compiled one by one: all of a kind share their code, and hooks and checkpointing stay outside.
    They take any shape: the number of crops and the length of rows change at every step.
    """
    if not (compiles_layers(device) if choice == "auto" else choice):
        return
    encoders = [model.encoder, *([teacher] if teacher else [])]
    for encoder in encoders:
        _compile(encoder.layers[: encoder.depth_used])
    _compile(model.llm.model.layers)
    model.compile_loss()


def _compile(layers: Iterable[nn.Module]) -> None:
    for layer in layers:
        layer.compile(dynamic=True)
