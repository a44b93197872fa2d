"""The script that checks and measures everything on an accelerator does so on a CPU too, at tiny size."""

from __future__ import annotations

import importlib
import json
import subprocess

import pytest
from conftest import ROOT, environment


@pytest.fixture
def on_device(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("on_device")


def start(out, *options: str) -> subprocess.CompletedProcess:
    """The script as a user starts it, with this interpreter as the machine's python3."""
    command = ["benchmarks/on_device.sh", "--device", "cpu", "--out", str(out), *options]
    return subprocess.run(command, cwd=ROOT, env=environment(ROOT), capture_output=True, text=True)


@pytest.mark.slow
def test_every_step_says_what_it_found_in_one_line_of_json(tmp_path, on_device):
    # Other cases of the same step are in tests/test_benchmarks.py.
    cases = {"measure stage2", "measure sft", "measure stage1 small crops", "measure stage1 apart"}
    chosen = [step.name for step in on_device.list_steps(on_cpu=True) if step.name not in cases]
    done = start(tmp_path, "--minutes", "10", "--steps", *chosen)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert printed == lines
    assert [line["step"] for line in lines] == chosen
    measured = [line for line in lines if "images/s" in line]
    assert len(measured) == 2
    for line in measured:
        assert line["images/s"] > 0 and line["loss"][1] < line["loss"][0] and 0 <= line["padding"] < 1, line
    found = {line["step"]: line for line in lines}
    assert found["packed batch"]["relative distance"]["bf16 sdpa"]["encoder"] > 0
    assert found["kill and resume"]["killed"] and found["kill and resume"]["same bits"]
    assert found["answers"]["questions"] == 80 and found["answers"]["differ"] == 0
    table = (tmp_path / "table.md").read_text()
    assert all(line["step"] in table for line in lines) and table in done.stdout


def test_what_no_longer_fits_is_skipped_and_said_to_be(tmp_path):
    done = start(tmp_path, "--minutes", "0.1", "--steps", "machine", "answers")
    assert done.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == ["no time left"] * 2
    assert "| answers | skipped |" in done.stdout


def test_a_step_that_hangs_is_ended_and_the_next_one_goes_on(on_device, tmp_path):
    worker = on_device.Worker({"device": "cpu", "model": None, "images": 1})
    step = on_device.Step("machine", "measure", "machine", 1)
    assert worker.do(step, {}, 0.01) == {"ok": False, "error": "took longer than 0 s"}
    found = worker.do(on_device.Step("no such", "check", "no_such", 1), {}, 120)
    worker.stop()
    assert found == {"ok": False, "error": "AttributeError: 'Steps' object has no attribute 'no_such'"}


def test_missing_packages_are_named_with_the_way_to_bring_them(on_device, monkeypatch, capsys):
    monkeypatch.setattr(on_device, "NEEDED", ("torch", "no_such_package"))
    with pytest.raises(SystemExit, match=r"lacks no_such_package\. requirements/device.txt names"):
        on_device.check_packages()


def test_packages_to_carry_are_those_of_the_lock():
    def pins(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().lower().replace("_", "-").splitlines()
        return {line.strip() for line in lines if "==" in line and not line.startswith("#")}

    carried = pins("device.txt")
    assert carried and carried <= pins("lock.txt")


def test_an_unknown_step_is_refused_with_the_known_ones(on_device):
    with pytest.raises(SystemExit, match="unknown everything; expected some of machine, packed batch"):
        on_device.list_steps(True, ["everything"])
