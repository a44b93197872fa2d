"""What learns, by which optimizer, and how fast: AdamW, warm-up and a cosine (Sec. 5.1)."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from granvit.device import has_fused_optimizer
from granvit.models.mllm import MLLM


def freeze_all_but(model: MLLM, parts: tuple[str, ...]) -> dict[str, list[nn.Parameter]]:
    """Let only ``parts`` learn; returns the learning parameters of each part.

    Of the encoder only what its features depend on learns: layers behind the feature layer never get a
    gradient. A frozen language model passes gradients on to the projector.
    """
    model.requires_grad_(False).eval()
    for layer in model.llm.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True  # where asked, it then checkpoints; its own modules (dropout) stay in eval
    learning = model.parameters_of(parts)
    for part, parameters in learning.items():
        getattr(model, part).train()
        for parameter in parameters:
            parameter.requires_grad_(True)
    return learning


def make_optimizer(
    learning: dict[str, list[nn.Parameter]], recipe, device: torch.device
) -> torch.optim.AdamW:
    """AdamW with a learning rate a part; weight decay on matrices only (norms and biases have no scale to
    shrink)."""
    groups = []
    for part, parameters in learning.items():
        for decay, chosen in (
            (recipe.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            rate = getattr(recipe.learning_rate, part)
            groups.append({"params": chosen, "part": part, "lr": rate, "peak": rate, "weight_decay": decay})
    fused = has_fused_optimizer(device)
    return torch.optim.AdamW(groups, fused=fused, foreach=not fused)


def rate_factor(step: int, steps: int, warmup_ratio: float) -> float:
    """Linear warm-up over ``warmup_ratio`` of the steps, then cosine to zero; ``step`` counts from 0."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
