"""What SLURM gave the job that this process belongs to, and whether a job is alive: asked of its commands."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from pathlib import Path

from granvit.errors import GranvitError

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"  # which devices a process of CANN sees
DEVICES = Path("/dev")  # holds davinci0, davinci1, ...
LIVING = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT", "REQUEUED", "STOPPED"}

_locks: list[int] = []  # held until this process ends


def job_id() -> str | None:
    """The id of the SLURM job that this process belongs to."""
    return os.environ.get("SLURM_JOB_ID")


def is_living(job: str) -> bool | None:
    """Whether a job is in the queue or runs; None where SLURM does not say."""
    try:
        command = ["squeue", "--noheader", "--states=all", "--jobs", job, "--format=%T"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return False if "Invalid job id" in done.stderr else None  # forgotten: it ended long ago
    return any(state in LIVING for state in done.stdout.split())


def seconds_left() -> float | None:
    """How long this job may still run; None outside of SLURM, without a limit, or where it does not say."""
    job = job_id()
    if job is None:
        return None
    try:
        command = ["squeue", "--noheader", "--jobs", job, "--format=%L"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", shown.strip())
    if not found:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def requeue() -> bool:
    """Ask SLURM to start this job again, from the queue; whether it agreed. It then ends this process."""
    job = job_id()
    if job is None:
        return False
    try:
        return subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def show_own_devices() -> str:
    """Let this process, and those that it starts, see the NPUs that SLURM gave its job, and no others;
    returns what to say about it.

    SLURM sets a variable for GPUs, but none for `gres: npu`: without this every job of a shared node takes
    device 0. The numbers stand in `scontrol -d show job`; where SLURM only counts devices, jobs of this
    project share them out by a lock a device. Raises GranvitError where no device of the node is free.
    """
    job = job_id()
    if job is None or VISIBLE in os.environ:
        return ""
    try:
        command = ["scontrol", "-d", "show", "job", job]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        shown = ""
    given = given_npus(shown)
    if given is None:
        return ""
    count, numbers = given
    if not numbers:
        there = sorted(int(name) for path in DEVICES.glob("davinci*") if (name := path.name[7:]).isdigit())
        if count >= len(there):
            return ""  # the whole node
        numbers = _lock(there, count)
    os.environ[VISIBLE] = ",".join(map(str, numbers))
    return f"devices: NPU {os.environ[VISIBLE]} of this node, of SLURM job {job}"


def given_npus(shown: str) -> tuple[int, list[int]] | None:
    """How many NPUs of its node a job has, and their numbers where SLURM knows them, out of
    `scontrol -d show job`; None for a job without any, and for one of several nodes (which has them whole).

    >>> given_npus("Nodes=n1 CPU_IDs=0 Mem=1 GRES=gpu:1(IDX:0),npu:910b:3(IDX:0-1,5)")
    (3, [0, 1, 5])
    """
    nodes = re.findall(r"^\s*Nodes=(\S+) CPU_IDs=\S+ .*?GRES=(\S*)", shown, re.MULTILINE)
    if len(nodes) != 1 or re.search(r"[\[,]", nodes[0][0]):
        return None
    found = re.search(r"(?:^|,)npu(?::[^:(,]+)*\((IDX|CNT):([\d,-]+)\)", nodes[0][1])
    if not found:
        return None
    kind, said = found.groups()
    if kind == "CNT":
        return int(said), []
    numbers: list[int] = []
    for part in said.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return len(numbers), numbers


def _lock(there: list[int], count: int) -> list[int]:
    """Numbers of devices that no other job of this project on this node holds."""
    taken: list[int] = []
    for number in there:
        file = Path(tempfile.gettempdir()) / f"granvit-npu{number}.lock"
        handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            continue
        _locks.append(handle)
        taken.append(number)
        if len(taken) == count:
            return taken
    raise GranvitError(
        f"devices: SLURM gave this job {count} NPUs by number only, and other jobs hold all but {len(taken)} "
        f"of this node's {len(there)}; ask for whole nodes (`gres` in profile.yaml), or let gres.conf name "
        "the devices' files"
    )
