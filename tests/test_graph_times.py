"""Results that `dvc pull` brings are planned as where they were made: on a workflow of three jobs with large
files and a folder, whose times Snakemake goes by."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, call, commit, planned

from granvit.errors import GranvitError
from granvit.graph import times

SNAKEFILE = """
import sys
from granvit.graph.times import give_back_times
if workflow.is_main_process and (said := give_back_times()):
    print(said, file=sys.stderr)
rule table:
    input: model="results/model", shard="results/shard"
    output: "results/table"
    shell: "cat {input.model}/weights {input.shard} > {output}"
rule train:
    input: shard="results/shard", start="start"
    output: directory("results/model")
    shell: "mkdir {output}; cat {input} > {output}/weights"
rule pack:
    output: "results/shard"
    shell: "head -c 1500000 /dev/zero > {output}"
"""
SNAKEMAKE = "snakemake --cores 1"
PIPELINE = f"""
stages:
  train:
    cmd: {SNAKEMAKE} results/model
    deps: [start]
    outs:
      - results/shard: {{persist: true}}
      - results/model: {{persist: true}}
  table:
    cmd: {SNAKEMAKE} results/table
    deps: [results/model]
    outs:
      - results/table: {{persist: true}}
      - .snakemake/metadata: {{persist: true}}
"""


@pytest.fixture(scope="module")
def author(tmp_path_factory) -> Path:
    """A checkout whose results were made by `dvc repro`, and pushed."""
    folder = tmp_path_factory.mktemp("author")
    for name, text in {
        "Snakefile": SNAKEFILE, "dvc.yaml": PIPELINE, ".dvcignore": (ROOT / ".dvcignore").read_text(),
        "start": "s" * 1_500_000, ".gitignore": "/results/\n/.snakemake/\n",
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    run(folder, "dvc", "remote", "add", "--default", "store", str(folder.parent / "store"))
    run(folder, "dvc", "repro", "--quiet")
    run(folder, "dvc", "push", "--quiet")
    commit(folder, "made")
    return folder


@pytest.fixture
def pulled(author, tmp_path) -> Path:
    """A clone with what `dvc pull` brings, in the worst order of times."""
    call(tmp_path, "git", "clone", "--quiet", str(author), "clone")
    folder = tmp_path / "clone"
    run(folder, "dvc", "pull", "--quiet")
    for age, name in enumerate(["start", "results/shard", "results/model", "results/table"]):
        time = (folder / "dvc.lock").stat().st_mtime - age
        os.utime(folder / name, (time, time))
    return folder


def run(folder: Path, *command: str) -> str:
    return call(folder, "env", f"PYTHONPATH={ROOT}", *command)


def plan(folder: Path) -> dict[str, int]:
    return planned(run(folder, "snakemake", "--cores", "1", "-n", "results/table"))


def change(file: Path) -> None:
    """Another byte by hand."""
    with open(file, "r+b") as opened:
        opened.write(b"x")


@pytest.mark.graph
def test_pulled_results_are_up_to_date_whatever_their_order(pulled):
    output = run(pulled, "snakemake", "--cores", "1", "-n", "results/table")
    assert "3 results that DVC holds have the times of their making again" in output
    assert "Nothing to be done" in output
    run(pulled, "dvc", "status", "--quiet")  # looks again after every command of DVC
    assert plan(pulled) == {}


@pytest.mark.graph
def test_what_was_changed_by_hand_is_noticed_before_and_after(pulled):
    change(pulled / "results/model/weights")
    assert plan(pulled) == {"table": 1}
    run(pulled, "dvc", "data", "status")
    assert plan(pulled) == {"table": 1}
    change(pulled / "results/shard")
    assert plan(pulled) == {"train": 1, "table": 1}
    run(pulled, "dvc", "checkout", "--force")
    assert plan(pulled) == {}


@pytest.mark.graph
def test_large_source_that_changed_is_noticed(pulled):
    change(pulled / "start")
    assert plan(pulled) == {"train": 1, "table": 1}
    assert plan(pulled) == {"train": 1, "table": 1}


@pytest.mark.graph
def test_repro_takes_a_change_by_hand_through_all_stages(pulled):
    change(pulled / "results/model/weights")
    run(pulled, "dvc", "repro")
    assert (pulled / "results/table").read_bytes()[:1] == b"x"


@pytest.mark.graph
@pytest.mark.parametrize("command", [["cp", "-a"], ["cp", "-r"], ["mv"]])
def test_a_copied_or_moved_checkout_makes_nothing_again(pulled, command):
    assert plan(pulled) == {}
    call(pulled.parent, *command, "clone", "elsewhere")
    elsewhere = pulled.parent / "elsewhere"
    if command == ["cp", "-r"]:  # in no order, but here in the worst
        for age, name in enumerate(["results/shard", "results/model/.snakemake_timestamp", "results/table"]):
            time = (elsewhere / "results/table").stat().st_mtime - age
            os.utime(elsewhere / name, (time, time))
    assert plan(elsewhere) == {}


@pytest.mark.graph
def test_new_results_stay_newer_than_what_was_pulled(pulled):
    assert plan(pulled) == {}
    run(pulled, "snakemake", "--cores", "1", "--force", "results/model")
    run(pulled, "dvc", "data", "status")
    assert plan(pulled) == {"table": 1}


@pytest.mark.graph
def test_what_was_made_here_before_its_input_was_pulled_is_made_again(pulled):
    made, model = pulled / "results/table", pulled / "results/model"
    made.write_text("of other weights")  # an older run's, which DVC does not hold
    pulled_at = (pulled / "dvc.lock").stat().st_mtime
    os.utime(made, (pulled_at - 5, pulled_at - 5))
    os.utime(model, (pulled_at, pulled_at))
    assert plan(pulled) == {"table": 1}
    assert plan(pulled) == {"table": 1}


def test_old_file_under_the_record_of_a_new_run_stays_new(pulled, monkeypatch):
    monkeypatch.chdir(pulled)
    (record,) = [record for path, record in times.read_records() if path == Path("results/model")]
    known = json.loads(record.file.read_text())
    record.file.write_text(json.dumps({**known, "params": ["another"], "endtime": known["endtime"] + 60}))
    assert (
        "; results/model changed since a job wrote it, and is not as in dvc.lock" in times.give_back_times()
    )


def test_dvc_that_cannot_answer_stops_the_plan_and_says_so(pulled, monkeypatch):
    monkeypatch.chdir(pulled)
    (pulled / "dvc.lock").write_text("no lock")
    with pytest.raises(GranvitError, match="dvc.lock: DVC cannot say .* `touch .snakemake/times_given_back`"):
        times.give_back_times()
    call(pulled, "touch", ".snakemake/times_given_back")
    assert times.give_back_times() is None


def test_a_moved_result_is_one_that_changed(pulled, monkeypatch):
    monkeypatch.chdir(pulled)
    os.rename("results/model/weights", "results/model/others")
    assert "results/model changed since a job wrote it" in times.give_back_times()


def test_source_that_repro_has_taken_over_does_not_become_old(pulled, monkeypatch):
    monkeypatch.chdir(pulled)
    change(pulled / "start")
    run(pulled, "dvc", "commit", "--force", "--quiet", "train")  # as `dvc repro` of its stage would
    before = Path("start").stat().st_mtime
    times.give_back_times()
    assert Path("start").stat().st_mtime == before


def test_without_dvc_no_time_is_touched(author, tmp_path, monkeypatch):
    folder = shutil.copytree(author, tmp_path / "plain")
    (folder / "dvc.lock").unlink()
    monkeypatch.chdir(folder)
    os.utime("results/shard", (1, 1))
    assert times.give_back_times() is None and Path("results/shard").stat().st_mtime == 1


def test_read_only_results_are_named(pulled, monkeypatch):
    monkeypatch.chdir(pulled)

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(GranvitError, match="results/.*: cannot be given its modification time"):
        times.give_back_times()
