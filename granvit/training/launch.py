"""One training run on many devices: a launcher starts one process a device, and each calls ``train``.

    python -m granvit.training.launch JOB.json      # what every process runs

The launcher is a command of the configuration (``compute.launcher``), so that a profile may name srun with
torchrun, the DeepSpeed launcher, or anything else that sets RANK, LOCAL_RANK and WORLD_SIZE.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from granvit.errors import GranvitError
from granvit.processes import end_with_parent, rank_environment
from granvit.training.job import EXIT_SAVED, STOP_SIGNALS, Job
from granvit.training.owner import owning

PLACES = ("{devices}", "{nodes}", "{host}", "{port}")


def launch(job: Job, launcher: str | None, devices: int, nodes: int) -> None:
    """Train ``job``: in this process, or by ``launcher`` with ``devices`` processes on each of ``nodes``.

    A signal to this process asks the ranks, through a file in the state folder that all of them see, to save
    and exit; this process then exits with code 85 too (EXIT_SAVED). Whoever writes that file asks the same.
    Raises GranvitError where another living job has the state folder, where the launcher is not there or
    fails, and, without one, what ``train`` raises.
    """
    if launcher is None:
        if max(devices, 1) * nodes > 1:
            raise GranvitError(
                f"compute.launcher: null, but compute asks for {nodes} x {devices} devices; name a launcher, "
                f"e.g. 'torchrun --standalone --nproc-per-node {{devices}}'"
            )
        with owning(job.state_dir):
            return _train(job)
    with owning(job.state_dir):
        _launch(job, launcher, max(devices, 1), nodes)


def _launch(job: Job, launcher: str, devices: int, nodes: int) -> None:
    job_file = job.state_dir / "job.json"
    job_file.write_text(job.model_dump_json(indent=2), encoding="utf-8")
    command = launch_command(launcher, devices, nodes, job_file)
    job.stop_file.unlink(missing_ok=True)
    code, asked = _run(command, job.stop_file, rank_environment(devices, job.compute.data_workers))
    if (asked or job.stop_file.exists()) and not job.manifest.is_file():
        raise SystemExit(EXIT_SAVED)
    if code:
        raise GranvitError(
            f"{job.recipe.name}: the launcher ended with code {code}; the ranks' messages are above. "
            f"Command: {shlex.join(command)}"
        )


def launch_command(
    launcher: str, devices: int, nodes: int, job_file: Path, module: str = "granvit.training.launch"
) -> list[str]:
    """The command line of ``launcher`` with its places filled, for processes that run ``module``.

    ``{host}`` is this machine's name and ``{port}`` follows from the job, so that two jobs do not meet.
    Raises GranvitError where a place is unknown or the command is not on PATH.
    """
    values = {
        "devices": devices, "nodes": nodes, "host": socket.gethostname(), "port": _port(job_file),
    }  # fmt: skip
    try:
        words = [word.format(**values) for word in shlex.split(launcher)]
    except (KeyError, IndexError, ValueError) as error:
        raise GranvitError(
            f"compute.launcher: {launcher!r} cannot be filled ({error}); its places are {', '.join(PLACES)}"
        ) from None
    if shutil.which(words[0]) is None:
        raise GranvitError(f"compute.launcher: {words[0]!r} is not on PATH; install it, or name another one")
    flag = "--module" if Path(words[0]).name == "deepspeed" else "-m"
    return [*words, flag, module, str(job_file)]


def _train(job: Job) -> None:
    from granvit.training.run import train  # imports torch, which the launching process can do without

    train(job)


def _run(command: list[str], stop_file: Path, environment: dict[str, str]) -> tuple[int, bool]:
    """How ``command`` ended, and whether a signal asked it to."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        with suppress(OSError):  # a handler must not raise into what it interrupts
            stop_file.touch()

    # A session of its own: a signal to this process group is answered here, not by half of the ranks.
    process = subprocess.Popen(command, start_new_session=True, env=environment, preexec_fn=end_with_parent)
    previous = {number: signal.signal(number, ask) for number in (*STOP_SIGNALS, signal.SIGINT)}
    try:
        return process.wait(), asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _port(job_file: Path) -> int:
    """A port between 20000 and 30000 out of the job's name."""
    return 20000 + int.from_bytes(str(job_file.resolve()).encode(), "big") % 9973


def as_rank(work: Callable[[], None]) -> int:
    """The exit status of a process that does a rank's ``work``: it ends with its launcher, and of all ranks
    the first one prints a user's mistake."""
    end_with_parent()
    try:
        work()
    except GranvitError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """What a rank of a training run runs."""
    job = Job.model_validate_json(Path(arguments[-1]).read_text(encoding="utf-8"))
    return as_rank(lambda: _train(job))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
