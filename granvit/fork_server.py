"""A process that has imported the large libraries once, from which the workflow's small jobs are forked.

Importing torch and transformers takes about five seconds of CPU, which is most of a job at smoke scale.
Snakemake starts a server when it runs jobs on its own machine and `compute.fork_server` is true. A script
that finds the server lets a fork of it run the same script (same file, folder, environment and streams), and
ends as that ends. What is imported beforehand is other people's code only, so a job sees this package as it
is when the job starts. Jobs of one thread only: the libraries read the number of threads when they are
imported.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

from granvit.processes import THREADS

ADDRESS = "GRANVIT_FORK_SERVER"  # the environment's name for the server's socket
KILLED = 128 + signal.SIGKILL  # exit status, as a shell has it
MODELS = ("aimv2", "clip", "internvl", "qwen2", "siglip", "siglip2")
LIBRARIES = (
    "deepspeed",  # of accelerate and transformers, as they save
    "matplotlib.figure",
    "numpy",
    "pandas",
    "PIL.Image",
    "pyarrow.parquet",
    "pydantic",
    "rouge_score.rouge_scorer",
    "scipy.stats",
    "torch",
    "torch._dynamo",
    "torch.distributed.tensor",
    "torch.export",
    "transformers.models.auto.modeling_auto",
    *(f"transformers.models.{model}.modeling_{model}" for model in MODELS),
)

_servers: list[subprocess.Popen] = []  # each ends when its stdin is closed: with this process


def start() -> None:
    """Start a server for the jobs of this process. It ends with this process; until its libraries are there,
    jobs import their own."""
    folder = tempfile.mkdtemp(prefix="granvit-")  # nobody else's process may have scripts run: mode 0700
    os.environ[ADDRESS] = str(Path(folder) / "socket")
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    # Libraries ask for a GPU as they are imported; through CUDA itself, no fork could use it any more.
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    command = [sys.executable, "-m", "granvit.fork_server"]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "env": environment}
    _servers.append(subprocess.Popen(command, **options))


def run_in_fork(script: str) -> int | None:
    """Let a fork of the server run a workflow script; its exit status, or None where there is no server;
    ``KILLED`` where it was killed before it could say.

    SIGTERM is passed on, and the fork gets it too when this process is gone.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.environ[ADDRESS])
    except (KeyError, OSError):
        return None
    job = {"script": script, "folder": os.getcwd(), "environment": dict(os.environ)}
    with connection, connection.makefile("r") as answer:
        status = ""
        signal.signal(signal.SIGTERM, lambda *_: connection.send(b"T"))
        socket.send_fds(connection, [json.dumps(job).encode() + b"\n"], [0, 1, 2])
        with contextlib.suppress(ConnectionResetError):
            status = answer.read()
    return int(status) if status else KILLED


def load_libraries() -> None:
    """Import them. What this machine lacks is left to the job that needs it."""
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    if conversions := sys.modules.get("transformers.conversion_mapping"):
        with contextlib.suppress(AttributeError):  # 1,000 patterns, which a process compiles once
            conversions.get_checkpoint_conversion_mapping("llama")


def serve(address: str) -> socket.socket | None:
    """Fork at each connection; returns the connection in the fork, and None in the server once its parent is
    gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: each job decides for itself
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that ended forks are gone at once
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                return None
            connection, _ = listener.accept()
            if not os.fork():
                return connection
            connection.close()


def become(connection: socket.socket) -> str:
    """Take over streams, folder and environment of the job that a connection asks for; returns its script."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 20)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    job = json.loads(message)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    del os.environ[ADDRESS]
    tempfile.tempdir = None  # the job's own TMPDIR
    sys.argv, sys.path[0] = [job["script"]], str(Path(job["script"]).parent)
    return job["script"]


def end_with(connection: socket.socket) -> None:
    """SIGTERM for this process when the other side passes it on, or is gone."""

    def watch() -> None:
        while connection.recv(1):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def run_script(script: str) -> int:
    """Run a file as the main program; returns the exit status it would have had."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class End:
    """The last thing that a fork does: say how it ended, and be gone. To tear down all that is loaded would
    cost as much as a small job."""

    def __init__(self) -> None:
        self.connection: socket.socket | None = None
        self.status = 1

    def __call__(self) -> None:
        if self.connection is None:
            return  # the server's own end
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the other side is gone from here on
        sys.stdout.flush()
        sys.stderr.flush()
        self.connection.send(str(self.status).encode())
        os._exit(self.status)


def main() -> None:
    address, end = os.environ[ADDRESS], End()
    atexit.register(end)  # before the libraries and the job register theirs, which run first
    load_libraries()
    gc.freeze()  # or each fork's first collection would copy the pages of all these objects
    connection = serve(address)
    if connection is None:
        shutil.rmtree(Path(address).parent, ignore_errors=True)
        return
    end.connection = connection
    script = become(connection)
    end_with(connection)
    end.status = run_script(script)
    sys.exit(end.status)


if __name__ == "__main__":
    main()
