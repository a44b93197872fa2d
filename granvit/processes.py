"""Processes that a job starts: they import this very package, and none outlives the job."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

from granvit.errors import GranvitError

PR_SET_PDEATHSIG = 1
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what libraries read once


def plain_path(interpreter: str) -> str:
    """A path of the interpreter that shells read as one word: from this folder, if need be, since `.venv` has
    no space. Raises GranvitError where there is none."""
    for path in (interpreter, os.path.relpath(interpreter)):
        if not re.search(r"[^\w@%+=:,./-]", path):
            return path
    raise GranvitError(
        f"environment: Snakemake cannot start {interpreter!r}, whose path has a space or another sign that "
        "shells read; make the environment in the checkout (`make env`), or in a folder without such signs"
    )


def end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent is gone (kill -9): a launcher then ends its
    ranks, and a rank saves and exits. Linux only; elsewhere nothing is asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def importing_environment() -> dict[str, str]:
    """This process's environment, in which the package that is running is the one that is imported."""
    root = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def rank_environment(ranks: int, workers: int = 0) -> dict[str, str]:
    """``importing_environment`` of each of a node's ranks: they share the job's threads, where it has
    a number, and of its part each rank's ``workers``, which decode images, take one each."""
    environment = importing_environment()
    for name in THREADS:
        if environment.get(name, "").isdigit():
            environment[name] = str(max(1, int(environment[name]) // ranks - workers))
    return environment
