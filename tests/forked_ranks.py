"""A launcher: its ranks are forks of one process that has imported torch and DeepSpeed already
(granvit.fork_server), which start in a second or two where torchrun's take twelve.

    forked_ranks.py DEVICES [-m MODULE] JOB.json     # whatever is named, every rank runs troubled_rank.py

It does as torchrun does: RANK and the other variables are set, and all ranks end with the first that fails.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from granvit.fork_server import run_in_fork

RANK_SCRIPT = Path(__file__).with_name("troubled_rank.py")
PATIENCE = 120  # seconds for the server to import its libraries


def start_rank(rank: int, ranks: int, port: int, job: str) -> int:
    """The process id of one that waits for a rank, and ends as it does."""
    if process := os.fork():
        return process
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    several = {name: str(value) for name, value in places.items()} if ranks > 1 else {}
    os.environ.update(several, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), JOB=job)
    end = time.monotonic() + PATIENCE
    while (status := run_in_fork(str(RANK_SCRIPT))) is None and time.monotonic() < end:
        time.sleep(0.2)
    os._exit(1 if status is None else status)


def main(arguments: list[str]) -> int:
    ranks, job = int(arguments[0]), str(Path(arguments[-1]).resolve())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waiting = {start_rank(rank, ranks, port, job) for rank in range(ranks)}
    worst = 0
    while waiting:
        process, ended = os.wait()
        waiting.discard(process)
        code = os.waitstatus_to_exitcode(ended)
        if code and not worst:
            worst = code
            for other in waiting:
                os.kill(other, signal.SIGTERM)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
