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
from granvit.files import naming_full_disk
from granvit.progress import say
from granvit.training.engine import Cluster
from granvit.training.job import STOP_SIGNALS

FINGERPRINT = "fingerprint.json"  # written last: a state that has it is whole
LAYOUT = ("ranks", "sharding")  # a state is whole, so any number of ranks goes on from it


class States:
    """States of one run under ``folder``, as ``step-00000500/``: ``shared.pt`` of all ranks and
    ``rank{N}.pt`` of each.

    ``fingerprint``: what a state must agree in to be taken (recipe, seed, inputs), and the layout that it was
    saved by (ranks, sharding), which may be another one; ``keep``: how many of the last ones stay.
    ``cluster``: its main rank removes, renames and prints, to ``log`` too.
    """

    def __init__(
        self, folder: Path, fingerprint: dict, keep: int, cluster: Cluster, log: Path | None = None
    ) -> None:
        self.folder, self.fingerprint, self.keep, self.cluster = folder, fingerprint, keep, cluster
        self.log, self.damaged = log, set[Path]()

    def save(self, step: int, write: Callable[[], tuple[dict, dict]]) -> None:
        """Write the state after ``step``. ``write()`` returns what all ranks share and what is this rank's
        own. Raises GranvitError where the disk is full."""
        final = self.folder / f"step-{step:08d}"
        staged = self.folder / f".{final.name}.tmp"
        try:
            self._together(final, lambda: self._prepare(staged))
            self._write(staged, final, write)
        except GranvitError:
            shutil.rmtree(staged, ignore_errors=True)  # what is half-written would fill the disk for good
            raise
        if self.cluster.is_main:
            for outdated in (final, *self.damaged):
                shutil.rmtree(outdated, ignore_errors=True)
            os.replace(staged, final)
            for old in self._whole()[: -self.keep]:
                shutil.rmtree(old, ignore_errors=True)
        self.damaged.clear()
        self.cluster.wait()

    def _prepare(self, staged: Path) -> None:
        if self.cluster.is_main:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)

    def _write(self, staged: Path, final: Path, write: Callable[[], tuple[dict, dict]]) -> None:
        shared, own = write()

        def parts() -> None:
            _save(partial(torch.save, own), staged / f"rank{self.cluster.rank}.pt")
            if self.cluster.is_main:
                _save(partial(torch.save, shared), staged / "shared.pt")

        def fingerprint() -> None:
            if self.cluster.is_main:
                text = json.dumps({**self.fingerprint, "files": _sizes(staged)}, indent=2, sort_keys=True)
                _save(lambda file: file.write(text.encode()), staged / FINGERPRINT)

        for work in (parts, fingerprint):
            self._together(final, work)

    def _together(self, final: Path, work: Callable[[], None]) -> None:
        """Do ``work`` on every rank, and go on when all have. Raises the same GranvitError on all of them
        where the disk of one fails: others would wait for it, and only the first rank prints its message."""
        problem = ""
        try:
            with naming_full_disk(final):
                work()
        except GranvitError as error:
            problem = str(error)
        except OSError as error:
            problem = (
                f"state: {final} cannot be written ({error}); mend that, then start the same command again"
            )
        problems = [*filter(None, self.cluster.gather([problem]))]
        if problems:
            raise GranvitError(problems[0])

    def load(self) -> tuple[Path, dict, dict] | None:
        """Folder, shared and own part of the last state, or None where there is none. One that is damaged is
        named and passed over: the one before it is taken.

        Raises GranvitError when another recipe, seed or input made it, and where all states are damaged.
        """
        whole = self._whole()
        for folder in reversed(whole):
            parts, problem = self._read(folder)
            if self.cluster.max(int(bool(problem))):  # on any rank
                self.damaged.add(folder)
                self._say(
                    f"state: {folder} is damaged: {problem or 'a file of another rank'}; "
                    "going back to the one before"
                )
            else:
                return folder, *parts
        if whole:
            raise GranvitError(
                f"state: none of the {len(whole)} saved states in {self.folder} can be read (see the lines "
                "above); remove that folder to start anew"
            )
        return None

    def finish(self) -> None:
        """The run is written. Its last state stays, from which that is done again in no time: Snakemake
        removes the outputs of a job whose end it did not see. ``granvit.finished`` takes it away later."""
        if self.cluster.is_main:
            for step in self._whole()[:-1]:
                shutil.rmtree(step, ignore_errors=True)
            for cache in self.folder.glob("*.arrow"):
                cache.unlink(missing_ok=True)

    def _whole(self) -> list[Path]:
        return sorted(path.parent for path in self.folder.glob(f"step-*/{FINGERPRINT}"))

    def _read(self, folder: Path) -> tuple[list[dict], str]:
        """Shared and own part of a state, or what is wrong with it."""
        try:
            saved = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
        except ValueError as error:
            return [], f"{FINGERPRINT}: {error}"
        self._require_own(folder, saved)
        found = _sizes(folder)
        for name, size in saved["files"].items():
            if found.get(name) != size:
                there = f"has {found[name]} of {size} bytes" if name in found else "is missing"
                return [], f"{name} {there}"
        parts = []
        # A rank more than there were takes the first one's: the generators decide nothing that is learnt.
        # Where there are fewer, all files are looked at.
        ranks = range(self.cluster.rank, saved.get("ranks", 1), self.cluster.size)
        for name in ("shared.pt", *([f"rank{rank}.pt" for rank in ranks] or ["rank0.pt"])):
            try:
                parts.append(torch.load(folder / name, map_location="cpu", weights_only=True))
            except Exception as error:  # torch and pickle raise many types on damaged bytes
                return [], f"{name}: {str(error).splitlines()[0]}"
        return parts[:2], ""

    def _require_own(self, folder: Path, saved: dict) -> None:
        for name, value in self.fingerprint.items():
            found = saved.get(name)
            if found != value and name not in LAYOUT:
                raise GranvitError(
                    f"state: {folder} was written with {name} {found}, this run has {value}; remove the "
                    f"folder {self.folder} to start anew"
                )
        before, now = ([of.get(name) for name in LAYOUT] for of in (saved, self.fingerprint))
        if before != now:
            says = [
                sharding if ranks == 1 else f"{ranks} ranks ({sharding})" for ranks, sharding in (before, now)
            ]
            self._say(f"state: {folder} is of {says[0]}; going on with {says[1]}")

    def _say(self, line: str) -> None:
        if self.cluster.is_main:
            say(self.log, line)


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


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file of a state, but its fingerprint."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != FINGERPRINT
    }


def _save(write: Callable[[BinaryIO], object], path: Path) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
