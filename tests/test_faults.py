"""What a user sees of each fault: docs/faults.md shows lines that were really printed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, call
from test_data_pack import _shard

from granvit.data.records.pack import pack_shard
from granvit.errors import GranvitError
from granvit.files import require_writable, write_csv
from granvit.processes import plain_path
from granvit.training import owner
from granvit.training.checkpoint import States

ALONE = {"is_main": True, "rank": 0, "wait": lambda: None, "gather": list, "max": int}


def is_documented(line: str) -> bool:
    """Whether docs/faults.md shows this line, with `…` for any text."""
    shown = (ROOT / "docs/faults.md").read_text(encoding="utf-8").split("```")[1::2]
    lines = [line for block in shown for line in block.strip().splitlines() if line != "…"]
    return any(re.fullmatch(re.escape(shown).replace("…", ".+"), line) for shown in lines)


def said(work: Callable[[], object]) -> str:
    """The one line with which a job ends."""
    with pytest.raises(GranvitError) as raised:
        work()
    return f"error: {raised.value}"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted: not root, or a container that forbids it")
    yield folder
    subprocess.run(["umount", folder], check=True)


def save_state(folder: Path, words: int, recipe: str = "one") -> None:
    states = States(
        folder / "state", {"recipe_hash": recipe, "ranks": 1, "sharding": "x"}, 2, SimpleNamespace(**ALONE)
    )
    states.load()
    states.save(1, lambda: ({"weights": torch.zeros(words)}, {}))


@pytest.mark.parametrize("what", ["state", "shard", "table"])
def test_full_disk_is_one_line_that_names_file_and_space_and_leaves_nothing(small_disk, tmp_path, what):
    inputs = _shard(tmp_path, images=100, size=8000) if what == "shard" else ()
    work = {
        "state": lambda: save_state(small_disk, 10**6),
        "shard": lambda: pack_shard(*inputs, small_disk / "00000.tar", small_disk / "00000.parquet"),
        "table": lambda: write_csv(small_disk / "table1.csv", ["a"], (["x" * 100] for _ in range(10_000))),
    }[what]
    line = said(work)
    assert is_documented(line), line
    assert not [path for path in small_disk.rglob("*") if path.is_file()]


def test_state_of_another_recipe_is_refused(tmp_path):
    save_state(tmp_path, 1)
    line = said(lambda: save_state(tmp_path, 1, recipe="another"))
    assert is_documented(line), line


def test_state_of_a_living_job_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "PATIENCE", 0.0)
    with owner.owning(tmp_path):
        line = said(lambda: owner.owning(tmp_path).__enter__())
    assert is_documented(line), line


def test_second_workflow_of_a_checkout_stops_before_anything(tmp_path):
    script = tmp_path / "workflow_scripts/run_graph.sh"
    script.parent.mkdir()
    shutil.copy(ROOT / "workflow_scripts/run_graph.sh", script)
    (tmp_path / ".snakemake").mkdir()
    with open(tmp_path / ".snakemake/run_graph.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = call(tmp_path, str(script), "results/table1.csv", fails=True).strip()
    assert is_documented(line), line


def test_read_only_results_start_nothing(small_disk, monkeypatch):
    monkeypatch.chdir(small_disk)
    (small_disk / "results").mkdir()
    require_writable("results", "absent")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(GranvitError) as raised:
        require_writable("results")
    assert is_documented(str(raised.value))


def test_environment_in_an_odd_path_is_refused():
    with pytest.raises(GranvitError) as raised:
        plain_path("/home/me/my environments/bin/python")
    assert is_documented(str(raised.value))


@pytest.mark.graph
def test_read_only_checkout_plans_and_a_killed_one_is_locked(clone, tmp_path):
    folder = shutil.copytree(clone, tmp_path / "clone", symlinks=True)
    (folder / ".snakemake/locks").mkdir(parents=True)
    (folder / ".snakemake/locks/0.output.lock").write_text("results/figure3.png\n")
    output = call(folder, "snakemake", "--cores", "1", "results/figure3.png", fails=True)
    lines = output.partition("LockException:")[2].strip().splitlines()
    assert is_documented(lines[0]) and is_documented(lines[2]), output
    (folder / "results").mkdir()
    os.chmod(folder / "results", 0o555)
    if os.geteuid():  # root writes everywhere
        said = call(folder, "snakemake", "--cores", "1", "results/figure3.png", fails=True)
        assert "results: nothing can be written here" in said
    assert "Job stats" in call(folder, "snakemake", "-n", "results/figure3.png")


def test_the_page_names_tests_that_are_there():
    named = set(re.findall(r"`(test_\w+\.py)`", (ROOT / "docs/faults.md").read_text(encoding="utf-8")))
    assert len(named) > 10 and {name for name in named if not (ROOT / "tests" / name).is_file()} == set()
