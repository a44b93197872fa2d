"""The projector between encoder and language model: a two-layer MLP (Sec. 5.1; GELU between the layers as
in LLaVA-1.5)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from granvit.errors import GranvitError
from granvit.models.loading import AGAIN, read_json


class Projector(nn.Module):
    """(B, T, ``input_size``) encoder features -> (B, T, ``output_size``) language-model embeddings.

    ``tiles``: with how many tiles an image was cut when this projector learned (0: none); it fixes
    ``input_size``.
    """

    def __init__(self, input_size: int, output_size: int, tiles: int = 0) -> None:
        super().__init__()
        self.input_size, self.output_size, self.tiles = input_size, output_size, tiles
        self.up = nn.Linear(input_size, output_size)
        self.down = nn.Linear(output_size, output_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(features)))

    def save(self, folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Write config.json and model.safetensors; ``weights``: instead of the module's own."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"input_size": self.input_size, "output_size": self.output_size, "tiles": self.tiles}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(
            {name: value.contiguous() for name, value in (weights or self.state_dict()).items()},
            folder / "model.safetensors",
        )


def load_projector(folder: Path) -> Projector:
    """Read what ``Projector.save`` wrote; raises GranvitError when the folder is missing or its weights
    do not fit."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise GranvitError(
            f"projector: {folder}/config.json is missing; expected a finished training run's model folder"
        )
    try:
        projector = Projector(**read_json(folder / "config.json", "projector"))
        projector.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, RuntimeError, TypeError, SafetensorError) as error:
        raise GranvitError(f"projector: cannot load {str(folder)!r}: {error}. {AGAIN}") from error
    return projector
