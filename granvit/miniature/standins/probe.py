"""What an encoder's patches know, by a linear probe: the check made on every stand-in before it is
shipped."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins import encoders as standin_encoders
from granvit.miniature.world import words

GROUPS = {
    "shape": words.SHAPES,
    "colour": tuple(words.COLOURS),
    "texture": words.TEXTURES,
    "word": words.WORDS,
}
TRAIN, TEST = 1536, 512
FIRST = 8192  # of the pool; any slice holds all kinds


@torch.no_grad()
def _features(tower: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 64, C) of the layer before the last, which the MLLM reads."""
    hidden = [tower(batch, output_hidden_states=True).hidden_states[-2] for batch in pixels.split(128)]
    return torch.cat(hidden)[:, -(standin_data.GRID**2) :]


def probe(name: str, tower: nn.Module, pool_path: Path, steps: int = 150) -> dict[str, float]:
    """Accuracy of a linear layer per group of words on patches that show exactly one word of the group."""
    pool = standin_data.image_pool(pool_path, standin_encoders.POOL)[FIRST : FIRST + TRAIN + TEST]
    features = _features(tower, standin_encoders.normalise(pool, name))
    symbols = [standin_data.symbols(standin_data.make_truth(FIRST + i)) for i in range(TRAIN + TEST)]
    accuracy = {}
    for group, names in GROUPS.items():
        rows = [
            (image, patch, names.index(seen[0]))
            for image, slots in enumerate(symbols)
            for patch, slot in enumerate(slots)
            if len(seen := [word for word in slot if word in names]) == 1
        ]
        image, patch, target = (torch.tensor(column) for column in zip(*rows, strict=True))
        x, train = features[image, patch], image < TRAIN
        accuracy[group] = round(
            _fit(x[train], target[train], x[~train], target[~train], len(names), steps), 3
        )
    return accuracy


def _fit(
    x: torch.Tensor, y: torch.Tensor, test_x: torch.Tensor, test_y: torch.Tensor, classes: int, steps: int
) -> float:
    torch.manual_seed(0)
    head = nn.Sequential(nn.BatchNorm1d(x.shape[1], affine=False), nn.Linear(x.shape[1], classes))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.03)
    for _ in range(steps):
        loss = F.cross_entropy(head(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()
    return (head(test_x).argmax(-1) == test_y).float().mean().item()
