"""The resumable state of a run: atomic folders, the last few kept, refused when they belong to another."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from granvit.errors import GranvitError

FINGERPRINT = "fingerprint.json"  # written last: a state that has it is whole
STOP = "stop"  # a file that asks a run to save and exit, where a signal would not reach every rank


class States:
    """States of one run under ``folder``, as ``step-00000500/``: ``shared.pt`` of all ranks and
    ``rank{N}.pt`` of each.

    ``fingerprint``: what a state must agree in to be taken (recipe, seed, inputs, ranks and sharding);
    ``keep``: how many of the last ones stay. ``cluster``: its main rank removes, renames and prints.
    """

    def __init__(self, folder: Path, fingerprint: dict, keep: int, cluster) -> None:
        self.folder, self.fingerprint, self.keep, self.cluster = Path(folder), fingerprint, keep, cluster

    def save(self, step: int, write: Callable[[Path], tuple[dict, dict]]) -> None:
        """Write the state after ``step``. ``write(folder)`` puts sharded parts there and returns what all
        ranks share and what is this rank's own."""
        final = self.folder / f"step-{step:08d}"
        staged = self.folder / f".{final.name}.tmp"
        if self.cluster.is_main:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
        self.cluster.wait()
        shared, own = write(staged)
        _save(own, staged / f"rank{self.cluster.rank}.pt")
        if self.cluster.is_main:
            _save(shared, staged / "shared.pt")
        self.cluster.wait()
        if self.cluster.is_main:
            _save_text(json.dumps(self.fingerprint, indent=2, sort_keys=True), staged / FINGERPRINT)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(staged, final)
            for old in self._whole()[: -self.keep]:
                shutil.rmtree(old, ignore_errors=True)
        self.cluster.wait()

    def load(self) -> tuple[Path, dict, dict] | None:
        """Folder, shared and own part of the last state, or None where there is none.

        Raises GranvitError when another recipe, seed, input or number of ranks made it.
        """
        whole = self._whole()
        if not whole:
            return None
        self._require_own(whole[-1] / FINGERPRINT)
        shared, own = (
            torch.load(whole[-1] / name, map_location="cpu", weights_only=True)
            for name in ("shared.pt", f"rank{self.cluster.rank}.pt")
        )
        return whole[-1], shared, own

    def remove(self) -> None:
        """The run is finished: nothing is left to resume."""
        if self.cluster.is_main:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def stop_file(self) -> Path:
        """Whoever writes this file asks the run to save and exit."""
        return self.folder / STOP

    def _whole(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob(f"step-*/{FINGERPRINT}"))

    def _require_own(self, file: Path) -> None:
        saved = json.loads(file.read_text(encoding="utf-8"))
        for name, value in self.fingerprint.items():
            found = saved.get(name)
            if found != value:
                raise GranvitError(
                    f"state: {file.parent} was written with {name} {found}, this run has {value}; remove the "
                    f"folder {self.folder} to start anew"
                )


def _save(content: dict, path: Path) -> None:
    with open(path, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def _save_text(text: str, path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
