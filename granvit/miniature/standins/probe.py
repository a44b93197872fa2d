"""What an encoder's patches know, by linear probes: the check that every stand-in is accepted by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from granvit.miniature.standins.data import GRID, GROUPS

HELD_OUT = 2048  # pictures that no encoder trains on: the last ones
TEST = 512  # of these; the rest trains the probes
PLACED_PATCHES = 8  # of a picture, at random, are asked for row and column
STEPS = 150


@torch.no_grad()
def patch_features(tower: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 64, C) of the layer before the last, which the MLLM reads, for normalised pixels."""
    hidden = [tower(batch, output_hidden_states=True).hidden_states[-2] for batch in pixels.split(256)]
    return torch.cat(hidden)[:, -(GRID**2) :]


def probe(tower: nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Accuracy of a linear layer for each group of words, on patches that show exactly one of its words, and
    for row and column of any patch.

    pixels: (HELD_OUT, 3, H, W) normalised; labels: int8 (HELD_OUT, 64, groups) as `data.Pictures` has them.
    """
    was_training = tower.training
    features, train = patch_features(tower.eval(), pixels), len(pixels) - TEST
    tower.train(was_training)
    accuracy = {}
    for number, (group, names) in enumerate(GROUPS.items()):
        image, patch = (labels[..., number] >= 0).nonzero(as_tuple=True)
        target = labels[image, patch, number].long()
        accuracy[group] = _accuracy(features[image, patch], target, image < train, len(names))
    generator = torch.Generator().manual_seed(0)
    patch = torch.randint(GRID**2, (len(pixels), PLACED_PATCHES), generator=generator).to(features.device)
    image = torch.arange(len(pixels), device=features.device)[:, None].expand_as(patch)
    image, patch = image.flatten(), patch.flatten()
    for place, target in (("row", patch // GRID), ("column", patch % GRID)):
        accuracy[place] = _accuracy(features[image, patch], target, image < train, GRID)
    return accuracy


def _accuracy(x: torch.Tensor, y: torch.Tensor, train: torch.Tensor, classes: int) -> float:
    """Of a linear layer trained on the rows ``train``, on the others."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        head = nn.Linear(x.shape[1], classes).to(x.device)
        mean, std = x[train].mean(0), x[train].std(0) + 1e-5
        x = (x - mean) / std
        seen, wanted = x[train], y[train]
        optimizer = torch.optim.AdamW(head.parameters(), lr=0.03)
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(head(seen), wanted).backward()
            optimizer.step()
        return round((head(x[~train]).argmax(-1) == y[~train]).float().mean().item(), 3)
