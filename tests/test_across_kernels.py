"""The comparison of two CPU kernels: what it takes, what it does in which order, and what it calls a move."""

from __future__ import annotations

import argparse
import json

import pytest
from conftest import ROOT

from granvit.errors import GranvitError
from granvit.graph.scale import Scale


@pytest.fixture
def across(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import across_kernels

    return across_kernels


def scores(**of_benchmarks):
    """name=(score, low, high)"""
    return {
        name: {"score": score, "interval": [low, high], "n": 100}
        for name, (score, low, high) in of_benchmarks.items()
    }


def test_a_move_is_held_against_half_the_width_of_the_interval(across):
    first = scores(A=(50.0, 40.0, 58.0), B=(50.0, 40.0, 58.0), C=(0.0, 0.0, 0.0), D=(100.0, 100.0, 100.0))
    second = scores(A=(41.5, 0, 0), B=(59.0, 0, 0), C=(0.0, 0, 0), D=(99.0, 0, 0))
    found = across.compared(first, second)
    assert [(r["difference"], r["half_width"], r["within"]) for r in found["rows"]] == [
        (-8.5, 9.0, True), (9.0, 9.0, False), (0.0, 0.0, True), (-1.0, 0.0, False),
    ]  # fmt: skip
    assert found["beyond"] == ["B", "D"] and found["ratio"] == 1.0


def test_scores_of_other_benchmarks_are_not_compared(across, tmp_path):
    with pytest.raises(GranvitError, match=r"\['B'\] in one folder only"):
        across.compared(scores(A=(1, 0, 2)), scores(A=(1, 0, 2), B=(1, 0, 2)))
    with pytest.raises(GranvitError, match="no score files there"):
        across.read_scores(tmp_path)
    (tmp_path / "A.json").write_text(json.dumps(scores(A=(1, 0, 2))["A"]))
    assert across.compared(across.read_scores(tmp_path), scores(A=(1, 0, 2)))["beyond"] == []


def test_the_command_line_reads_kernels_as_variables(across):
    read = across.parser().parse_args
    assert read(["--kernel", "A=x B=y=z"]).kernel == {"A": "x", "B": "y=z"}
    assert read([]).kernel == across.kernel_of(across.LOWEST) and read([]).recipe == "sft-siglip2"
    for wrong in ("", "A", "A=", "-A=x"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=value"):
            across.kernel_of(wrong)


def test_a_recipe_is_trained_behind_all_that_it_starts_from(across):
    names = [recipe.name for recipe in across.chain(Scale("mini"), "sft-granvit")]
    assert names == ["projector-siglip2", "stage1-granvit", "stage2-granvit", "sft-granvit"]


def test_missing_inputs_are_told_with_the_command_that_makes_them(across, tmp_path, monkeypatch):
    scale = Scale("smoke")
    recipes = across.chain(scale, "sft-siglip2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(across, "load_benchmarks", lambda: [])
    with pytest.raises(
        GranvitError, match="snakemake results/smoke/data/mixtures/instruction.parquet .*smoke`"
    ):
        across.require_inputs(scale, recipes)
    for name in ("instruction", "projector"):
        file = across.mixture_file(scale, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    across.require_inputs(scale, recipes)


def test_the_same_kernels_make_the_same_bits(across):
    first, second = across.operations(), across.operations()
    assert first == second and len(set(first.values())) == len(first) > 9
