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
from pathlib import Path

from granvit.config.base import Strict
from granvit.config.compute import RunCompute
from granvit.config.schema import EncoderSpec, LLMSpec, Recipe
from granvit.errors import GranvitError
from granvit.processes import end_with_parent, importing_environment

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
PLACES = ("{devices}", "{nodes}", "{host}", "{port}")


class Job(Strict):
    """What ``granvit.training.run.train`` takes, as a file can hold it."""

    recipe: Recipe
    seed: int
    encoder: EncoderSpec
    llm: LLMSpec
    parent_dir: str | None
    encoder_dir: str | None
    mixture: str
    heldout: str | None
    out_dir: str
    state_dir: str
    device: str
    log: str | None
    compute: RunCompute

    def train(self) -> None:
        """Run it in this process; under a launcher, as one of its ranks."""
        from granvit.training.run import train  # imports torch, which the launching process can do without

        train(**{name: getattr(self, name) for name in type(self).model_fields})


def launch(job: Job, launcher: str | None, devices: int, nodes: int) -> None:
    """Train ``job``: in this process, or by ``launcher`` with ``devices`` processes on each of ``nodes``.

    A signal to this process asks the ranks, through a file in the state folder that all of them see, to save
    and exit; this process then exits with code 85 too (EXIT_SAVED). Raises GranvitError where the launcher is
    not there or fails.
    """
    if launcher is None:
        if max(devices, 1) * nodes > 1:
            raise GranvitError(
                f"compute.launcher: null, but compute asks for {nodes} x {devices} devices; name a launcher, "
                f"e.g. 'torchrun --standalone --nproc-per-node {{devices}}'"
            )
        return job.train()
    state = Path(job.state_dir)
    state.mkdir(parents=True, exist_ok=True)
    job_file = state / "job.json"
    job_file.write_text(job.model_dump_json(indent=2), encoding="utf-8")
    command = launch_command(launcher, max(devices, 1), nodes, job_file)
    stopped = _run(command, state)
    if stopped.requested and not (Path(job.out_dir) / "manifest.json").is_file():
        from granvit.training.course import EXIT_SAVED

        raise SystemExit(EXIT_SAVED)
    if stopped.code:
        raise GranvitError(
            f"{job.recipe.name}: the launcher ended with code {stopped.code}; the ranks' messages are above. "
            f"Command: {shlex.join(command)}"
        )


def launch_command(launcher: str, devices: int, nodes: int, job_file: Path) -> list[str]:
    """The command line of ``launcher`` with its places filled.

    ``{host}`` is this machine's name and ``{port}`` follows from the job, so that two jobs do not meet.
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
    module = "--module" if Path(words[0]).name == "deepspeed" else "-m"
    return [*words, module, "granvit.training.launch", str(job_file)]


class _Stopped:
    """How a launcher ended, and whether it was asked to."""

    def __init__(self) -> None:
        self.requested, self.code = False, 0


def _run(command: list[str], state: Path) -> _Stopped:
    from granvit.training.checkpoint import STOP

    stopped = _Stopped()

    def ask(*_: object) -> None:
        stopped.requested = True
        (state / STOP).touch()

    # A session of its own: a signal to this process group is answered here, not by half of the ranks.
    process = subprocess.Popen(
        command, start_new_session=True, env=importing_environment(), preexec_fn=end_with_parent
    )
    previous = {number: signal.signal(number, ask) for number in STOPPING}
    try:
        stopped.code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return stopped


def _port(job_file: Path) -> int:
    """A port between 20000 and 30000 out of the job's name."""
    return 20000 + int.from_bytes(str(job_file.resolve()).encode(), "big") % 9973


def main(arguments: list[str]) -> int:
    """What a rank runs."""
    end_with_parent()
    job = Job.model_validate_json(Path(arguments[-1]).read_text(encoding="utf-8"))
    try:
        job.train()
    except GranvitError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
