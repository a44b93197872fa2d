"""The pretraining objectives of the encoders' namesakes, each as a small module around a vision tower.

CLIP: softmax contrastive (Radford et al. 2021). SigLIP: sigmoid contrastive (Zhai et al. 2023). SigLIP2:
sigmoid + captioning + masked self-distillation (Tschannen et al. 2025). AIMv2: autoregression over patches,
then text, with a prefix (Fini et al. 2025). InternViT: contrastive, then generative (Chen et al. 2024); here
both at once.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

WIDTH = 128
HEADS = 4
TEXT_LAYERS = 1
MAX_TEXT = 64
PAD = 0
EMA = 0.99


def _blocks(layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)


def _causal(hidden: torch.Tensor) -> torch.Tensor:
    """(L, L) bool for (B, L, C), True where attention is forbidden: after oneself."""
    length = hidden.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)


class TextTower(nn.Module):
    """Caption ids (B, L) -> one embedding each (B, C): the mean over words."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(MAX_TEXT, WIDTH) * 0.02)
        self.blocks = _blocks(TEXT_LAYERS)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        padding = ids == PAD
        hidden = self.blocks(self.words(ids) + self.places[: ids.shape[1]], src_key_padding_mask=padding)
        hidden = hidden.masked_fill(padding[..., None], 0).sum(1) / (~padding).sum(1, keepdim=True)
        return self.out(hidden)


class Contrastive(nn.Module):
    """Image-text matching inside a batch; ``sigmoid`` decides pair by pair, softmax against all others."""

    def __init__(self, vocabulary: int, sigmoid: bool) -> None:
        super().__init__()
        self.text = TextTower(vocabulary)
        self.image = nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None

    def forward(self, pooled: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """``pooled``: (B, C) of the images, ``ids``: (B, L) of their captions -> scalar loss."""
        images, texts = F.normalize(self.image(pooled), dim=-1), F.normalize(self.text(ids), dim=-1)
        logits = images @ texts.T * self.scale.exp().clamp(max=100)
        if self.bias is None:
            target = torch.arange(len(logits), device=logits.device)
            return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        signs = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -F.logsigmoid(signs * (logits + self.bias)).sum() / len(logits)


class Captioner(nn.Module):
    """A causal text decoder that looks at the patches by cross-attention."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(MAX_TEXT, WIDTH) * 0.02)
        layer = nn.TransformerDecoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerDecoder(layer, TEXT_LAYERS, norm=nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, patches: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """``patches``: (B, T, C), ``ids``: (B, L) beginning with BOS -> mean cross entropy of the next
        word."""
        hidden = self.words(ids[:, :-1]) + self.places[: ids.shape[1] - 1]
        hidden = self.blocks(hidden, patches, tgt_mask=_causal(hidden))
        return F.cross_entropy(self.head(hidden).flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD)


class Autoregression(nn.Module):
    """AIMv2: from the patches so far predict the next patch's normalised pixels, then the caption's words."""

    def __init__(self, vocabulary: int, patch_values: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, WIDTH, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(MAX_TEXT, WIDTH) * 0.02)
        self.blocks = _blocks(TEXT_LAYERS)
        self.pixels = nn.Linear(WIDTH, patch_values)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(
        self, patches: torch.Tensor, target: torch.Tensor, prefix: int, ids: torch.Tensor
    ) -> torch.Tensor:
        """``target``: (B, T, P) pixels of each patch; the first ``prefix`` patches saw each other and are
        not predicted."""
        count = patches.shape[1]
        hidden = torch.cat([patches, self.words(ids[:, :-1]) + self.places[: ids.shape[1] - 1]], dim=1)
        hidden = self.blocks(hidden, mask=_causal(hidden))
        target = F.layer_norm(target, target.shape[-1:])
        patch_loss = F.mse_loss(self.pixels(hidden[:, prefix - 1 : count - 1]), target[:, prefix:])
        text_loss = F.cross_entropy(
            self.head(hidden[:, count:]).flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD
        )
        return text_loss + 0.4 * patch_loss  # the weight that AIMv2 gives to pixels


class Places(nn.Module):
    """Row and column of every patch from its feature: published encoders know where a patch is, and the
    objectives alone do not ask for it in so short a training. The head is thrown away."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 2 * grid)
        numbers = torch.arange(grid * grid)
        self.register_buffer("target", torch.stack([numbers // grid, numbers % grid], dim=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``features``: (B, T, C) -> mean cross entropy of row and column."""
        logits = self.head(F.layer_norm(features, features.shape[-1:])).unflatten(-1, (2, -1))
        target = self.target.expand(len(features), -1, -1)
        return F.cross_entropy(logits.flatten(0, 2), target.flatten())


class SelfDistillation(nn.Module):
    """The student, shown a third of the patches in grey, predicts the EMA teacher's features of the hidden
    ones."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher: nn.Module | None = None
        self.head = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def begin(self, tower: nn.Module) -> None:
        """Take the student as it is as the first teacher."""
        self.teacher = copy.deepcopy(tower).requires_grad_(False)

    def forward(self, tower: nn.Module, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """``pixels``: (B, 3, H, W) normalised -> one minus the mean cosine at the hidden patches."""
        patch, grid = tower.config.patch_size, pixels.shape[-1] // tower.config.patch_size
        hidden = (torch.rand(len(pixels), grid, grid, generator=generator) < 0.35).to(pixels.device)
        grey = hidden.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
        seen = tower(pixels.masked_fill(grey, 0.0)).last_hidden_state
        with torch.no_grad():
            wanted = self.teacher(pixels).last_hidden_state
        mask = hidden.flatten(1)
        return 1 - F.cosine_similarity(self.head(seen[mask]), wanted[mask], dim=-1).mean()

    @torch.no_grad()
    def follow(self, tower: nn.Module) -> None:
        """Move the teacher towards the student; call after the optimizer step."""
        for mine, theirs in zip(self.teacher.parameters(), tower.parameters(), strict=True):
            mine.lerp_(theirs, 1 - EMA)
