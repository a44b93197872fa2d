"""Whether a run fits its device: refused before it starts, with the settings that would make it fit."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from granvit.config.compute import RunCompute
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.training.cost import Work, training_memory
from granvit.training.speed import fits_bf16
from granvit.training.stages import learning_parts

GIB = 1 << 30
# Region pairs of an average image of the paper's mixtures (Sec. 5.1): 130 M and 24 M on 29.5 M images.
REGIONS = {"stage1": 4.4, "stage2": 0.8}


def require_memory(model: MLLM, recipe, compute: RunCompute, ranks: int) -> None:
    """Raises GranvitError where a step of ``recipe`` on ``ranks`` devices cannot fit the memory of each
    (``compute.device_memory``), naming the settings with which it would. ``model``: as it will learn."""
    if compute.device_memory is None:
        return
    half = next(model.llm.parameters()).dtype == torch.bfloat16
    needed = layout_memory(model, recipe, compute, ranks, half)
    if needed["total"] <= compute.device_memory * GIB:
        return
    found = []
    for advice, other, other_half in _changes(model, recipe, compute, ranks, half):
        total = layout_memory(model, recipe, other, ranks, other_half)["total"]
        if total <= compute.device_memory * GIB:
            found.append(f"{advice} (about {total / GIB:.0f} GiB)")
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in needed.items() if name != "total")
    raise GranvitError(
        f"compute.device_memory: {recipe.name} needs about {needed['total'] / GIB:.0f} GiB a device "
        f"({parts}), there are {compute.device_memory:g}; "
        + (
            " or ".join(found)
            if found
            else "no setting of compute is enough: take more devices, or larger ones"
        )
    )


def layout_memory(
    model: MLLM, recipe, compute: RunCompute, ranks: int, frozen_bf16: bool
) -> dict[str, float]:
    """Bytes that each of ``ranks`` devices keeps in a step on average images (``cost.training_memory``),
    after ZeRO has shared out what it shares; plain DDP keeps gradients twice, its own buckets."""
    distillation = recipe.distillation
    regions = REGIONS.get(recipe.stage, 0)
    work = Work(
        learning_parts(recipe),
        regions,
        crops=min(regions, distillation.regions_per_image) if distillation else 0,
        crop_size=distillation.crop_size if distillation else 0,
    )
    positions = model.image_tokens + work.samples()[0][1]
    images = min(compute.tokens_per_batch // positions, math.ceil(recipe.batch_size / ranks))
    checkpointing = compute.gradient_checkpointing
    memory = training_memory(model, work, max(images, 1), frozen_bf16, checkpointing)
    if ranks > 1:
        sharing = {"zero2": ("gradients", "optimizer"), "zero3": ("gradients", "optimizer", "weights")}
        for name in sharing.get(compute.sharding, ()):
            memory[name] /= ranks
        memory["gradients"] *= 2 if compute.sharding == "ddp" else 1
    memory["total"] = sum(size for name, size in memory.items() if name != "total")
    return memory


def _changes(
    model: MLLM, recipe, compute: RunCompute, ranks: int, half: bool
) -> Iterator[tuple[str, RunCompute, bool]]:
    """Settings that take less memory: what to say of them, the layout, and whether a frozen LLM is bf16."""
    frozen = not recipe.trains.llm
    if frozen and not half and recipe.precision == "bf16" and fits_bf16(model.llm.parameters()):
        yield "set compute.frozen_bf16: true", compute, True
    if ranks > 1 and compute.sharding == "ddp":
        yield f"set compute.sharding.{recipe.stage}: zero2", _with(compute, sharding="zero2"), half
    large = compute
    if not compute.gradient_checkpointing:
        sharding = compute.sharding if frozen else "zero3"
        large = _with(compute, sharding=sharding, gradient_checkpointing=True)
        yield f"add {recipe.llm} to compute.large_llms", large, half
    also = "" if large is compute else f" and {recipe.llm} to compute.large_llms"
    for layout, extra in ((compute, ""), (large, also))[: 1 if large is compute else 2]:
        tokens = min(layout.tokens_per_batch, recipe.batch_size * model.image_tokens * 2) // 2
        while tokens > model.image_tokens:
            smaller = _with(layout, tokens_per_batch=tokens)
            if layout_memory(model, recipe, smaller, ranks, half)["total"] <= compute.device_memory * GIB:
                yield f"set compute.tokens_per_batch: {tokens}{extra}", smaller, half
                break
            tokens //= 2


def _with(compute: RunCompute, **changes) -> RunCompute:
    return compute.model_copy(update=changes)
