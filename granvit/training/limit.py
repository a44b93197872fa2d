"""A run that would meet its job's time limit saves before it, and goes on in another turn of the same job."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from granvit import slurm
from granvit.progress import say
from granvit.training.job import EXIT_SAVED, Job

PATIENCE = 300.0  # seconds that SLURM may take to end a job that it has put back into the queue


@contextmanager
def within_limit(job: Job, minutes: float) -> Iterator[None]:
    """Ask the run in the body, ``minutes`` before SLURM's limit (a quarter of what is left, where that is
    less), to save and exit, through its stop file.

    A run that has come further since the beginning is then put back into the queue, which uses up no retry;
    where SLURM refuses that, and where it has come no further, the job fails with EXIT_SAVED. Without SLURM
    or a limit this does nothing. SLURM's own warning (SIGTERM, at the limit) leaves half a minute, and ends
    the shells between it and the trainer first.
    """
    left, over = slurm.seconds_left(), threading.Event()
    if left is None:
        yield
        return
    ahead, asked = min(60 * minutes, left / 4), False

    def ask() -> None:
        nonlocal asked
        if not over.wait(left - ahead):
            asked = True
            say(job.log, f"{job.label} | {ahead / 60:.1f} minutes before the job's time limit: saving")
            with suppress(OSError):
                job.stop_file.touch()

    before = _states(job)
    threading.Thread(target=ask, daemon=True).start()
    try:
        yield
    except SystemExit as end:
        if end.code == EXIT_SAVED and asked and _states(job) - before and slurm.requeue():
            time.sleep(PATIENCE)
        raise
    finally:
        over.set()


def _states(job: Job) -> set[str]:
    return {folder.name for folder in job.state_dir.glob("step-*")}
