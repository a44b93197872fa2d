"""What every workflow script does the same way: its log, its threads, plain messages for a user's
mistakes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from granvit.errors import GranvitError
from granvit.fork_server import KILLED, run_in_fork
from granvit.processes import THREADS
from granvit.progress import say, write_log
from granvit.slurm import show_own_devices

WAS_KILLED = (
    "error: this job's process was killed. If nobody did that, the machine's memory was full (`dmesg` says "
    "so): let fewer jobs run at once (--cores). The same command goes on from what is done."
)


def run(snakemake, main: Callable[..., None]) -> None:
    """Run `main(snakemake, log)` for one job; `log` is the path of the rule's log file.

    A GranvitError ends the job with its message alone; any other error is a bug, and leaves its traceback in
    the log too.
    """
    log = Path(snakemake.log[0])
    if snakemake.threads == 1 and (status := run_in_fork(sys.argv[0])) is not None:
        if status == KILLED:
            say(log, WAS_KILLED)
        sys.exit(status)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    for name in THREADS:
        os.environ[name] = str(snakemake.threads)  # before torch or numpy is imported: they read it once
    _stop_with_snakemake()
    try:
        if snakemake.resources.get("accelerators") and (said := show_own_devices()):
            say(log, said)
        main(snakemake, log)
    except GranvitError as error:
        say(log, f"error: {error}")
        sys.exit(1)
    except Exception:
        write_log(log, traceback.format_exc())
        raise


def _stop_with_snakemake() -> None:
    """End this process when Snakemake is gone (kill -9): a job that nobody waits for would write under the
    next run.

    Snakemake starts a script through a shell or a fork server, whose parent is watched. SIGTERM lets a
    trainer save its state.
    """
    between = Path(f"/proc/{os.getppid()}/stat")
    if not between.exists():
        return  # no /proc on this system

    def parent_of_parent() -> str:
        try:
            return between.read_text().rpartition(")")[2].split()[1]
        except OSError:
            return "gone"

    snakemake = parent_of_parent()

    def watch() -> None:
        while parent_of_parent() == snakemake:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
