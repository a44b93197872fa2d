"""What the tests' workflows start again and again is forked from a process that has imported its libraries
once (granvit.fork_server): Snakemake itself, whose imports are most of a dry-run, and its jobs' scripts.

A server is started when it is first needed, or before the workers that share it, and ends with the process of
the tests that started it.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from granvit import fork_server

SNAKEMAKE = (
    "nbformat",
    "pandas",
    "pydantic",
    "smart_open",
    "snakemake.cli",
    "snakemake.report",
    "snakemake.storage",
)
LIBRARIES = {"snakemake": SNAKEMAKE, "jobs": fork_server.LIBRARIES}
ARGUMENTS, JOBS = "FORK_ARGUMENTS", "FORK_JOBS"  # names in a fork's environment
PATIENCE = 120.0  # seconds for a server to import its libraries

# Address and process of each, which ends as its stdin is closed
_servers: dict[str, tuple[str, subprocess.Popen]] = {}


def share_servers() -> None:
    """Start all servers, for the workers that this process starts."""
    os.environ.update({f"FORKS_{server}": address_of(server) for server in LIBRARIES})


def address_of(server: str) -> str:
    """Where the server of `snakemake` or of `jobs` listens, once it has its libraries."""
    if shared := os.environ.get(f"FORKS_{server}"):
        return shared
    if server not in _servers:
        address = str(Path(tempfile.mkdtemp(prefix="granvit-")) / "socket")
        environment = {**os.environ, fork_server.ADDRESS: address}
        command = [sys.executable, __file__, server]
        _servers[server] = address, subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    return _servers[server][0]


def run_snakemake(folder: Path, arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output (both streams) of `snakemake` with these arguments in a folder."""
    jobs = {JOBS: environment.get(fork_server.ADDRESS, "")}
    return run("snakemake", __file__, folder, arguments, environment | jobs)


def run(
    server: str,
    script: str,
    folder: Path,
    arguments: list[str],
    environment: dict[str, str],
    errors: int | None = None,
) -> tuple[int, str]:
    """Exit status and output of a Python script with these arguments in a folder; the output is that of both
    streams, or of the first alone where ``errors`` is the file descriptor for the second."""
    given = {ARGUMENTS: json.dumps(arguments), fork_server.ADDRESS: ""}
    job = {"script": script, "folder": str(folder), "environment": environment | given}
    with (
        tempfile.TemporaryFile() as output,
        open(os.devnull, "rb") as nothing,
        _connected(address_of(server)) as connection,
        connection.makefile("r") as answer,
    ):
        streams = [nothing.fileno(), output.fileno(), output.fileno() if errors is None else errors]
        socket.send_fds(connection, [json.dumps(job).encode() + b"\n"], streams)
        status = answer.read()
        output.seek(0)
        return int(status) if status else 1, output.read().decode(errors="replace")


def _connected(address: str) -> socket.socket:
    end = time.monotonic() + PATIENCE
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def as_a_process_of_its_own(run_script):
    """A fork's way to run a script as a new process would, by its own PYTHONPATH: the package is that of its
    checkout, and what it imports is written down (tests/recorder)."""

    def run_alone(script: str) -> int:
        for name in [name for name in sys.modules if name.partition(".")[0] == "granvit"]:
            del sys.modules[name]
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[1:1] = paths
        sys.argv[1:] = json.loads(os.environ.pop(ARGUMENTS, "[]"))
        if recorder := next((path for path in paths if path.endswith("tests/recorder")), None):
            runpy.run_path(f"{recorder}/sitecustomize.py")
        return run_script(script)

    return run_alone


def be_snakemake() -> None:
    """What a fork does for `run_snakemake`."""
    from snakemake.cli import main

    if jobs := os.environ.pop(JOBS):
        os.environ[fork_server.ADDRESS] = jobs
    sys.argv[0] = "snakemake"
    main(sys.argv[1:])


if __name__ == "__main__":
    if JOBS in os.environ:
        be_snakemake()
    else:
        fork_server.LIBRARIES = LIBRARIES[sys.argv[1]]
        fork_server.run_script = as_a_process_of_its_own(fork_server.run_script)
        fork_server.main()
