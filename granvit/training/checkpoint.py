"""The resumable state of a run: atomic folders, the last few kept, refused when they belong to another; and
the request to save one and stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch

from granvit.errors import GranvitError
from granvit.training.engine import Cluster
from granvit.training.job import STOP_SIGNALS

FINGERPRINT = "fingerprint.json"  # written last: a state that has it is whole


class States:
    """States of one run under ``folder``, as ``step-00000500/``: ``shared.pt`` of all ranks and
    ``rank{N}.pt`` of each.

    ``fingerprint``: what a state must agree in to be taken (recipe, seed, inputs, ranks and sharding);
    ``keep``: how many of the last ones stay. ``cluster``: its main rank removes, renames and prints.
    """

    def __init__(self, folder: Path, fingerprint: dict, keep: int, cluster: Cluster) -> None:
        self.folder, self.fingerprint, self.keep, self.cluster = folder, fingerprint, keep, cluster

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
        _save(partial(torch.save, own), staged / f"rank{self.cluster.rank}.pt")
        if self.cluster.is_main:
            _save(partial(torch.save, shared), staged / "shared.pt")
        self.cluster.wait()
        if self.cluster.is_main:
            text = json.dumps(self.fingerprint, indent=2, sort_keys=True)
            _save(lambda file: file.write(text.encode()), staged / FINGERPRINT)
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


class StopRequest:
    """Whether to save and exit, asked between steps: after SIGTERM, SIGUSR1 or SIGUSR2 to any rank
    (schedulers warn before they kill), or once the job's stop file is there."""

    def __init__(self, file: Path, cluster: Cluster) -> None:
        self.file, self.cluster, self.signalled = file, cluster, False

    def __enter__(self) -> StopRequest:
        if self.cluster.is_main:
            self.file.unlink(missing_ok=True)
        self.previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def requested(self) -> bool:
        """The same answer on every rank."""
        asked = self.signalled or (self.cluster.is_main and self.file.exists())
        return bool(self.cluster.max(int(asked)))

    def _note(self, *_: object) -> None:
        self.signalled = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def _save(write: Callable[[BinaryIO], object], path: Path) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
