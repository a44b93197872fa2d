"""The speed benchmark of prediction runs at its smallest setting and says what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_benchmark_of_prediction_ends_with_one_line_of_json():
    command = [sys.executable, "benchmarks/bench_predict.py", "--images", "2", "--seconds", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["benchmark"] == "predict" and line["unit"] == "questions/s"
    assert line["ratio"] == round(line["ours"] / line["baseline"], 2)
    assert line["ratio_batched"] == round(line["ours"] / line["batched"], 2)
