"""A state folder belongs to one living job at a time: two that write one run would mix their states."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from granvit.errors import GranvitError
from granvit.slurm import is_living, job_id

BEAT = 15.0  # seconds between two signs of life
PATIENCE = 20.0  # seconds that a job whose Snakemake was killed has to save and end
SILENCE = 180.0  # seconds without one, after which an owner elsewhere is taken for dead


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Own ``folder`` (made if it is not there) while the body runs.

    The owner is written down in ``owner.json``, which is touched every BEAT seconds. Raises GranvitError
    where another owner is alive: on this machine its process, in SLURM's queue its job, elsewhere its signs
    of life.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "owner.json"
    _claim(file)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with suppress(OSError):
                os.utime(file)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        file.unlink(missing_ok=True)


def _claim(file: Path) -> None:
    process = os.getpid()
    owner = {"host": socket.gethostname(), "process": process, "begun": _begun(process), "job": job_id()}
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(FileExistsError), open(file, "x", encoding="utf-8") as opened:
            json.dump(owner, opened)
            return
        found = _read(file)
        if not (_is_alive(found, file) if found else _age(file) < BEAT):  # one may be just writing it
            file.unlink(missing_ok=True)
        elif time.monotonic() < end:
            time.sleep(0.5)
        else:
            job = f", SLURM job {found['job']}: `scancel {found['job']}`" if found.get("job") else ""
            raise GranvitError(
                f"state: {file.parent} belongs to a job that is alive (process {found.get('process')} on "
                f"{found.get('host')}{job}); wait for it or end it, then start this one again"
            )


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _is_alive(owner: dict, file: Path) -> bool:
    job = owner.get("job")
    if job and job == job_id():
        return False  # this very job, before SLURM started it again
    if owner.get("host") == socket.gethostname():
        return owner.get("begun") is not None and _begun(owner["process"]) == owner["begun"]
    if job and (living := is_living(job)) is not None:
        return living
    return _age(file) < SILENCE


def _age(file: Path) -> float:
    """Seconds since a file was touched, by the disk's own clock: machines' may differ."""
    probe = file.with_name(f".{file.name}.{os.getpid()}")
    probe.touch()
    try:
        return probe.stat().st_mtime - file.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        probe.unlink()


def _begun(process: int) -> str | None:
    """When a process of this machine began; None where there is none. A zombie is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
