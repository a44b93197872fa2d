"""CONTRIBUTING.md: one of each thing is added where it says, and nowhere else; the graph then plans it."""

from __future__ import annotations

import re

import pytest
import yaml
from conftest import ROOT, call, copy_repository, planned

pytestmark = pytest.mark.slow  # two dry-runs

CLAIM = """
  mine-helps:
    statement: A quarter of the weight is better
    where: CONTRIBUTING.md
    endpoint: {table: mine, columns: [Fine-Grained]}
    compare: {of: sft-quarter, minus: sft-stage1-8m}
    direction: higher
"""


def example(name: str) -> str:
    """The lines below ``# config/{name}`` of the guide's example."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.search(rf"(?s)# config/{re.escape(name)}[^\n]*\n(.*?)\n(?:\n#|```)", text)[1]


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy of the repository with a source, an encoder, an LLM, a benchmark, runs, a table and a claim
    more."""
    folder = copy_repository(tmp_path_factory.mktemp("contributed"))
    config = folder / "config"

    def change(name: str, edit) -> None:
        text = (config / name).read_text()
        changed = edit(text)
        assert changed != text
        (config / name).write_text(changed)

    def as_another(text: str, old: str, new: str) -> str:
        """The last line that begins with a name once more, under another name."""
        line = [line for line in text.splitlines() if line.lstrip().startswith(old)][-1]
        return text.replace(line, line + "\n" + line.replace(old, new, 1))

    change("sources_mini.tsv", lambda text: as_another(text, "Receipts\t", "Bills\t"))
    change("encoders.yaml", lambda text: as_another(text, "SigLIP2:", "MyEncoder:"))
    change("llms.yaml", lambda text: as_another(text, "Qwen2.5-3B:", "MyLLM:"))
    change("benchmarks.tsv", lambda text: as_another(text, "DocVQA\t", "MyDocs\t"))
    recipes = example("recipes.yaml") + (
        "\nprojector-mine: {stage: projector, encoder: MyEncoder, llm: MyLLM}\n"
        "sft-mine: {stage: sft, parent: projector-mine}\n"
    )
    change("recipes.yaml", lambda text: text + recipes)
    table = example("tables.yaml").replace("OCR]", "OCR, Docs]")
    table += "\n      - {label: {Run: another encoder}, recipe: sft-mine}\n"
    change(
        "tables.yaml", lambda text: text.replace("\ncolumns:\n", "\ncolumns:\n  Docs: [MyDocs]\n", 1) + table
    )
    change(
        "tables.yaml",
        lambda text: text.replace("\nbenchmarks:\n", "\nbenchmarks:\n  MyDocs: {benchmark: MyDocs}\n", 1),
    )
    change("claims.yaml", lambda text: text.rstrip() + CLAIM)
    sizes = config / "scales/smoke.yaml"
    sizes.write_text(sizes.read_text().replace("Receipts: 3", "Receipts: 3, Bills: 3"))
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
