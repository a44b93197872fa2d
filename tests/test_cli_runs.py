"""``granvit runs``: what has been trained, one run in full, and two beside each other."""

from __future__ import annotations

import json
import re

import pytest
from runs_world import make_run, make_runs

from granvit.cli import main


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder / "results")
    return folder


@pytest.fixture(autouse=True)
def in_world(world, monkeypatch):
    monkeypatch.chdir(world)


def test_runs_are_listed_with_what_used_them(world, capsys):
    assert main(["runs", "--json"]) == 0
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [
        "mini/projector-a/seed0", "mini/stage1-a/seed0", "mini/stage2-a/seed0", "mini/sft-a/seed0",
        "mini/sft-a/seed1",
    ]  # fmt: skip
    assert rows["mini/projector-a/seed0"]["used_by"] == ["mini/stage1-a/seed0"]
    sft = rows["mini/sft-a/seed0"]
    assert sft["used_by"] == ["predictions", "1 scores"]
    assert (sft["seconds"], sft["metrics"]["step"], sft["parent"]) == (75.2, 10, "stage2-a")
    files = (world / "made" / "model").rglob("*")
    assert sft["size"] == sum(path.stat().st_size for path in files if path.is_file()) > 0
    assert rows["mini/sft-a/seed1"]["size"] == 0


def test_the_list_is_a_table_for_people(capsys):
    assert main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].split()[:4] == ["run", "stage", "steps", "images"]
    assert re.search(r"mini/sft-a/seed1 +sft +7 +- +0\.250 +- +- +0:01:15 +removed +-$", lines[-1])


def test_one_run_is_shown_in_full(capsys):
    assert main(["runs", "show", "sft-a/seed0"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"can +ask, caption, describe, locate", shown)
    assert re.search(r"recipe.learning_rate.llm +0.001", shown)
    assert "score GQA                 53.00  [42.50, 63.00]" in shown
    assert main(["runs", "show", "mini/stage2-a", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["can"] == ["caption", "describe", "locate"]  # describing is what its parent learned
    assert content["manifest"]["recipe"]["name"] == "stage2-a"


def test_a_run_is_named_by_its_folder_from_anywhere(world, capsys, monkeypatch):
    monkeypatch.chdir(world / "results" / "mini" / "stage2" / "stage2-a")
    for name in ("seed0", str(world / "results/mini/stage2/stage2-a/seed0")):
        assert main(["runs", "show", name, "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["run"] == "mini/stage2-a/seed0" and content["can"] == ["caption", "describe", "locate"]
        assert content["used_by"] == ["mini/sft-a/seed0"]


def test_two_runs_beside_each_other_show_what_differs_alone(capsys):
    assert main(["runs", "diff", "sft-a/seed0", "sft-a/seed1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["differences"]
    assert found == {
        "seed": {"a": 0, "b": 1}, "metrics.loss": {"a": 0.5, "b": 0.25},
        "metrics.step": {"a": 10, "b": 7}, "metrics.images": {"a": 40, "b": None},
        "scores.GQA": {"a": 53.0, "b": None},
    }  # fmt: skip
    assert main(["runs", "diff", "stage1-a", "stage2-a"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"trains.encoder +True +False", shown)
    assert re.search(r"distillation.weight +1 +-\n", shown)
    assert main(["runs", "diff", "stage1-a", "mini/stage1-a/seed0"]) == 0
    assert capsys.readouterr().out == "mini/stage1-a/seed0 and mini/stage1-a/seed0 are the same\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "sft-b"], "no finished run of that name; it has projector-a, .*; did you mean 'sft-a'"),
        (["show", "sft-a"], "it may be mini/sft-a/seed0 or mini/sft-a/seed1; give one"),
        (["show", "sft-a/seed7"], "of that name; it has mini/sft-a/seed0, mini/sft-a/seed1"),
        (["show", "paper/sft-a/seed0"], "of that name; it has mini/sft-a/seed0"),
        (["diff", "sft-a/seed0", "/"], "holds no finished run of that name"),
        (["show", "x", "--results", "nowhere"], "nowhere: no finished run there; train one"),
    ],
)
def test_a_wrong_name_is_one_line(capsys, arguments, message):
    assert main(["runs", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and re.search(message, error)


def test_a_damaged_manifest_is_named(tmp_path, capsys):
    folder = make_run(tmp_path / "results", "sft-a", "sft", None, finished=1)
    (folder / "manifest.json").write_text("{")
    assert main(["runs", "--results", str(tmp_path / "results")]) == 1
    assert re.search(
        r"^error: .*seed0/manifest.json: cannot be read .*; delete it, and make it again",
        capsys.readouterr().err,
    )


def test_an_empty_folder_of_results_is_no_mistake(tmp_path, capsys):
    assert main(["runs", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: no finished run there\n"
