"""Attention of packed rows: who may look at whom, in the form that the language model's kernel wants.

SDPA with a boolean mask is the reference and runs anywhere. FlexAttention computes only the blocks that
hold a visible pair, which is what packing saves on CUDA; it has no backward on the CPU.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from granvit.device import has_flex_attention
from granvit.errors import GranvitError
from granvit.models.packing import PackedBatch

KERNELS = {"sdpa": "sdpa", "flex": "flex_attention"}  # our name -> transformers' name


def choose_attention(llm: nn.Module, name: str, device: torch.device) -> None:
    """Let ``llm`` attend with ``name``: sdpa, flex, or auto (flex where the device has it, else sdpa). Raises
    GranvitError for another name."""
    if name == "auto":
        name = "flex" if has_flex_attention(device) else "sdpa"
    if name not in KERNELS:
        raise GranvitError(f"attention: {name!r} is unknown; expected auto or one of {', '.join(KERNELS)}")
    llm.set_attn_implementation(KERNELS[name])


def joins_images(llm: nn.Module) -> bool:
    """Whether all images of a batch go into one row: only where masked blocks cost nothing."""
    return llm.config._attn_implementation == KERNELS["flex"]


def packed_attention(llm: nn.Module, packed: PackedBatch) -> torch.Tensor | BlockMask:
    """What ``llm`` takes as ``attention_mask`` for packed rows, on the device that holds them."""
    if joins_images(llm):
        return flex_mask(packed.segments, packed.prefixes)
    return packed.attention_mask


def flex_mask(segments: torch.Tensor, prefixes: torch.Tensor) -> BlockMask:
    """The block mask of (B, L) segments and prefixes; the same pairs as ``packing.segment_mask``."""

    def visible(row, head, query, key):
        other = segments[row, key]
        return (query >= key) & ((segments[row, query] == other) | (prefixes[row, query] == other))

    rows, length = segments.shape
    return create_block_mask(visible, rows, None, length, length, device=segments.device)
