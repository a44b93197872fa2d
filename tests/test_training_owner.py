"""One living job a state folder, and a save before SLURM's time limit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from granvit import slurm
from granvit.errors import GranvitError
from granvit.processes import rank_environment
from granvit.training import limit, owner
from granvit.training.job import EXIT_SAVED
from granvit.training.limit import within_limit
from granvit.training.owner import owning

ROOT = Path(__file__).resolve().parent.parent
HOLD = """
import sys, time
from pathlib import Path
from granvit.training.owner import owning
with owning(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(owner, "PATIENCE", 0.1)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """`tell(name, text, code)`: what a command of SLURM says; its arguments are in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def tell(name: str, text: str, code: int = 0) -> None:
        calls = f'echo "{name} $*" >> "{folder}/calls"'
        (folder / name).write_text(f'#!/bin/sh\n{calls}\necho "{text}"\necho "{text}" >&2\nexit {code}\n')
        (folder / name).chmod(0o755)

    tell.calls = folder / "calls"
    return tell


def test_folder_of_a_living_process_is_refused_and_of_a_dead_one_taken(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    other.stdout.readline()
    with (
        pytest.raises(GranvitError, match=rf"belongs to a job that is alive \(process {other.pid} on"),
        owning(tmp_path),
    ):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with owning(tmp_path):
        assert json.loads((tmp_path / "owner.json").read_text())["process"] == os.getpid()
    assert not (tmp_path / "owner.json").exists()


@pytest.mark.parametrize(
    ("says", "code", "age", "taken"),
    [
        ("RUNNING", 0, 900, False),
        ("PENDING", 0, 900, False),
        ("COMPLETED", 0, 0, True),
        ("slurm_load_jobs error: Invalid job id specified", 1, 0, True),
        ("cannot reach the controller", 1, 10, False),
        ("cannot reach the controller", 1, 900, True),
    ],
)
def test_owner_on_another_node_is_alive_by_its_job_or_its_signs_of_life(
    tmp_path, commands, says, code, age, taken
):
    commands("squeue", says, code)
    file = tmp_path / "owner.json"
    file.write_text(json.dumps({"host": "elsewhere", "process": 1, "begun": "1", "job": "77"}))
    os.utime(file, (time.time() - age,) * 2)
    if taken:
        with owning(tmp_path):
            pass
    else:
        with pytest.raises(GranvitError, match="SLURM job 77: `scancel 77`"), owning(tmp_path):
            pass


def test_owner_that_is_about_to_end_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "PATIENCE", 20)
    command = [sys.executable, "-c", HOLD.replace("60", "1"), str(tmp_path)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    other.stdout.readline()
    with owning(tmp_path):
        assert other.wait() == 0


def test_job_that_slurm_starts_again_takes_its_own_folder(tmp_path, monkeypatch, commands):
    commands("squeue", "RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    (tmp_path / "owner.json").write_text(json.dumps({"host": "elsewhere", "process": 1, "job": "77"}))
    with owning(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "half {"])
def test_owner_that_cannot_be_read_is_none(tmp_path, text):
    (tmp_path / "owner.json").write_text(text)
    with pytest.raises(GranvitError, match="alive"), owning(tmp_path):  # somebody may be writing it
        pass
    os.utime(tmp_path / "owner.json", (time.time() - 60,) * 2)
    with owning(tmp_path):
        assert json.loads((tmp_path / "owner.json").read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [
        ("5:07", 307),
        ("1:00:00", 3600),
        ("2-03:00:10", 183610),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_time_left_is_read_as_slurm_writes_it(commands, monkeypatch, shown, seconds):
    commands("squeue", shown)
    assert slurm.seconds_left() is None  # no job
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    assert slurm.seconds_left() == seconds
    assert "--jobs 5" in commands.calls.read_text()


def saving(job, came_further: bool) -> None:
    """A run that waits for its stop file, saves, and exits."""
    end = time.monotonic() + 20
    while not job.stop_file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    if came_further:
        (job.state_dir / "step-2").mkdir()
    raise SystemExit(EXIT_SAVED)


@pytest.mark.parametrize(
    ("shown", "minutes", "came_further", "requeued"),
    [("0:03", 0.01, True, True), ("0:02", 10.0, True, True), ("0:03", 0.01, False, False)],
)
def test_run_saves_before_the_limit_and_goes_on_in_another_turn(
    tmp_path, monkeypatch, commands, shown, minutes, came_further, requeued
):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr(limit, "PATIENCE", 0.01)
    commands("squeue", shown)
    commands("scontrol", "")
    (tmp_path / "step-1").mkdir()
    job = SimpleNamespace(state_dir=tmp_path, stop_file=tmp_path / "stop", log=None, label="run seed0")
    with pytest.raises(SystemExit) as end, within_limit(job, minutes):
        saving(job, came_further)
    assert end.value.code == EXIT_SAVED
    assert ("scontrol requeue 5" in commands.calls.read_text()) == requeued


@pytest.mark.parametrize(
    ("threads", "devices", "workers", "each"),
    [("64", 8, 6, "2"), ("8", 8, 6, "1"), ("8", 2, 0, "4"), ("1", 2, 0, "1")],
)
def test_ranks_of_a_node_share_the_threads_of_the_job(monkeypatch, threads, devices, workers, each):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert rank_environment(devices, workers)["OMP_NUM_THREADS"] == each


def test_run_that_ends_in_time_is_not_asked(tmp_path, monkeypatch, commands):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    commands("squeue", "0:02")
    job = SimpleNamespace(state_dir=tmp_path, stop_file=tmp_path / "stop", log=None, label="run seed0")
    with within_limit(job, 0.01):
        pass
    time.sleep(2)
    assert not job.stop_file.exists()
