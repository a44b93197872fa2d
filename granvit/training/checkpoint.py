"""The resumable state of a run: written atomically, the last one kept, and refused when it belongs to
another run."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from granvit.errors import GranvitError

STATE_FILE = "state.pt"


def save_state(state_dir: Path, fingerprint: dict, state: dict) -> None:
    """Replace the state in ``state_dir``. ``fingerprint``: recipe_hash, seed and the hashes of all inputs."""
    state_dir = Path(state_dir)
    state_dir.mkdir(parents=True, exist_ok=True)
    temporary = state_dir / f"{STATE_FILE}.tmp"
    with open(temporary, "wb") as file:
        torch.save({"fingerprint": fingerprint, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, state_dir / STATE_FILE)


def load_state(state_dir: Path, fingerprint: dict) -> dict | None:
    """The saved state, or None where there is none; raises GranvitError when another recipe, seed or
    input made it."""
    file = Path(state_dir) / STATE_FILE
    if not file.is_file():
        return None
    saved = torch.load(file, map_location="cpu", weights_only=True)
    for name, value in fingerprint.items():
        found = saved["fingerprint"].get(name)
        if found != value:
            raise GranvitError(
                f"state: {file} was written with {name} {found}, this run has {value}; remove the folder "
                f"{state_dir} to start anew"
            )
    return saved["state"]
