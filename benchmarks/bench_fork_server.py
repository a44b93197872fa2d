"""Small jobs of the workflow, forked from a process that has torch and transformers, against processes that
import them.

A job here loads a stand-in LLM and encoder: what every training and predicting job at smoke scale has to do
first. Both ways run `--jobs` of them, two at a time, after the server is there. Prints one JSON line; `ratio`
above one says how many times as many jobs an hour forking gets through, which is why
`config/scales/smoke.yaml` sets `compute.fork_server: true`. Run it from the repository's root on an idle
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from granvit import fork_server
from granvit.processes import THREADS

JOB = """
import granvit.evaluation.predict
import granvit.training.run
from granvit.config.loading import load_config
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm

config = load_config("smoke")
load_encoder(config.encoders["SigLIP2"])
load_llm(config.llms["Qwen2.5-1.5B"])
"""
ASK = "import sys; from granvit.fork_server import run_in_fork; sys.exit(run_in_fork(sys.argv[1]))"


def jobs_an_hour(command: list[str], jobs: int) -> float:
    """Jobs per hour, two at a time. Raises CalledProcessError where one fails."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": os.getcwd()}
    begin = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(subprocess.run, command, check=True, env=environment) for _ in range(jobs)]
        for one in started:
            one.result()
    return 3600 * jobs / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=8, help="of each way")
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "job.py"
        script.write_text(JOB)
        fork_server.start()
        while not Path(os.environ[fork_server.ADDRESS]).exists():
            time.sleep(0.1)
        forked = jobs_an_hour([sys.executable, "-c", ASK, str(script)], jobs)
        alone = jobs_an_hour([sys.executable, str(script)], jobs)
    found = {
        "benchmark": "fork_server",
        "ours": round(forked, 1),
        "baseline": round(alone, 1),
        "unit": "jobs/h",
    }
    print(json.dumps({**found, "ratio": round(forked / alone, 2)}))


if __name__ == "__main__":
    main()
