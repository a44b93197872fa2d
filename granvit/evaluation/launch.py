"""One prediction on several devices: a process a device, each with its part of the questions, then a merge.

    python -m granvit.evaluation.launch JOB.json      # what every process runs

The processes need nothing from each other, so any launcher that sets RANK, LOCAL_RANK and WORLD_SIZE may
start them too (``merge`` then ends the work); on one machine this module does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from granvit.errors import GranvitError
from granvit.evaluation.answer_files import AnswerFiles
from granvit.evaluation.asks import PredictionJob, fingerprints
from granvit.processes import end_with_parent, rank_environment

COMMAND = [sys.executable, "-m", "granvit.evaluation.launch"]  # what a process runs, before its job file


def predict_on_devices(job: PredictionJob, processes: int) -> None:
    """Answer all questions of ``job`` with so many processes, one a device, and write the same files as one.

    Raises GranvitError where one of them fails; what all have answered so far stays, and is not asked again.
    """
    if processes <= 1:
        return predict_shard(job)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(job.model_dump_json(), encoding="utf-8")
        run_all([_start(file, rank, processes) for rank in range(processes)])
    merge(job)


def merge(job: PredictionJob) -> None:
    """Write the ``.jsonl`` files that the shards have answered together; needs no device.

    Raises GranvitError while a shard has not come to its end.
    """
    asks = [ask for of_file in job.asks().values() for ask in of_file]
    AnswerFiles(job.out_dir, fingerprints(job.model_dir, asks), reuse=job.reuse).merge(asks)


def predict_shard(job: PredictionJob, shard: int = 0, shards: int = 1) -> None:
    """Answer one part of the questions in this process; the only part writes the files too. Raises
    GranvitError as `predict` does.
    """
    from granvit.evaluation.predict import predict  # imports torch, which a parent can do without

    predict(job, shard, shards)


def _start(file: Path, rank: int, processes: int) -> subprocess.Popen:
    environment = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        **rank_environment(processes),
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
    }  # fmt: skip
    return subprocess.Popen([*COMMAND, str(file)], env=environment, preexec_fn=end_with_parent)


def run_all(children: list[subprocess.Popen]) -> None:
    """Wait for all; the first that fails ends the others. Raises GranvitError that names it."""
    try:
        while running := [child for child in children if child.poll() is None]:
            if any(child.returncode for child in children):
                break
            time.sleep(0.05 if len(running) < len(children) else 0.5)
        # Read before the others are ended: what they leave with then (-15) is no failure of theirs
        failed = [(rank, child.returncode) for rank, child in enumerate(children) if child.returncode]
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            child.wait()
    if failed:
        rank, code = failed[0]
        raise GranvitError(
            f"predict: process {rank} of {len(children)} ended with code {code}; its message is above. "
            "Fix it and run again: what is answered is not asked again"
        )


def main(arguments: list[str]) -> int:
    """What each process runs: the shard of its rank, on the device of its local rank."""
    end_with_parent()
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    job = PredictionJob.model_validate_json(Path(arguments[-1]).read_text(encoding="utf-8"))
    try:
        if processes > 1:
            _take_device(job.device)
        predict_shard(job, rank, processes)
    except GranvitError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _take_device(name: str) -> None:
    import torch

    from granvit.device import pick_device

    getattr(torch, pick_device(name).type).set_device(int(os.environ.get("LOCAL_RANK", 0)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
