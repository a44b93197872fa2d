"""CONTRIBUTING.md: one of each thing is added where it says, and nowhere else; the graph then plans it."""

from __future__ import annotations

import pytest
import yaml
from additions import add_benchmark, add_rows, add_source, example
from conftest import call, copy_repository, planned

pytestmark = pytest.mark.slow  # two dry-runs


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy of the repository with a source, an encoder, an LLM, a benchmark, runs, a table and a claim
    more."""
    folder = copy_repository(tmp_path_factory.mktemp("contributed"))
    for add in (add_rows, add_benchmark, add_source):
        add(folder)
    return folder


def test_what_was_added_is_planned(added):
    output = call(
        added,
        "snakemake",
        "-n",
        "results/mine.csv",
        "results/mine.cost.csv",
        "shards",
        "--config",
        "scale=smoke",
    )
    plan = planned(output)
    assert (plan["pretrain_projector"], plan["train_stage1"], plan["finetune_sft"]) == (2, 2, 3)
    assert (plan["make_table"], plan["make_cost"]) == (1, 1) and plan["ingest_source"] == 9
    assert "results/smoke/predictions/sft-mine/seed0/MyDocs.jsonl" in output
    assert "results/smoke/data/packed/Bills/00000.tar" in output


def test_a_claim_about_it_asks_for_its_runs_alone(added):
    output = call(added, "snakemake", "-n", "claims", "--config", "scale=smoke", "claims=[mine-helps]")
    plan = planned(output)
    assert (plan["make_claims"], plan["finetune_sft"]) == (1, 6)  # two runs at three seeds


def test_the_example_changes_what_it_says():
    recipes = yaml.safe_load(example("recipes.yaml"))
    assert (
        recipes["stage1-quarter"]["distillation"] == {"weight": 0.25}
        and recipes["sft-quarter"]["parent"] == "stage1-quarter"
    )
    rows = yaml.safe_load("tables:\n" + example("tables.yaml"))["tables"]["mine"]["rows"]
    assert [row["recipe"] for row in rows] == ["sft-stage1-8m", "sft-quarter"]
