"""Snakemake for tests that wait for its end: each call is a fork of one process that has imported it already
(granvit.fork_server), as its imports are most of what a dry-run costs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from granvit import fork_server

ARGUMENTS = "SNAKEMAKE_ARGUMENTS"  # the environment's name for them
PATIENCE = 120.0  # seconds for the server to import its libraries
LIBRARIES = (
    "nbformat",
    "pandas",
    "pydantic",
    "smart_open",
    "snakemake.cli",
    "snakemake.report",
    "snakemake.storage",
)

_servers: dict[str, subprocess.Popen] = {}  # by address; each ends with this process, as its stdin is closed


def snakemake(folder: Path, arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output (both streams) of `snakemake` with these arguments in a folder."""
    job = {
        "script": __file__,
        "folder": str(folder),
        "environment": {**environment, ARGUMENTS: json.dumps(arguments), fork_server.ADDRESS: ""},
    }
    with (
        tempfile.TemporaryFile() as output,
        open(os.devnull, "rb") as nothing,
        _connection() as connection,
        connection.makefile("r") as answer,
    ):
        streams = [nothing.fileno(), output.fileno(), output.fileno()]
        socket.send_fds(connection, [json.dumps(job).encode() + b"\n"], streams)
        status = answer.read()
        output.seek(0)
        return int(status) if status else 1, output.read().decode(errors="replace")


def _connection() -> socket.socket:
    if not _servers:
        address = str(Path(tempfile.mkdtemp(prefix="granvit-")) / "socket")
        environment = {**os.environ, fork_server.ADDRESS: address}
        _servers[address] = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, env=environment
        )
    end = time.monotonic() + PATIENCE
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(next(iter(_servers)))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def main(arguments: list[str]) -> None:
    """Be Snakemake, in a fork that is to import the package of its folder."""
    from snakemake.cli import main as be_snakemake

    for name in [name for name in sys.modules if name.partition(".")[0] == "granvit"]:
        del sys.modules[name]
    sys.path[:1] = os.environ["PYTHONPATH"].split(os.pathsep)
    sys.argv = ["snakemake", *arguments]
    be_snakemake(arguments)


if __name__ == "__main__":
    if ARGUMENTS in os.environ:
        main(json.loads(os.environ.pop(ARGUMENTS)))
    else:
        fork_server.LIBRARIES = LIBRARIES
        fork_server.main()
