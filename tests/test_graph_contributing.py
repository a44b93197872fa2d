"""CONTRIBUTING.md at smoke scale: one of each thing is added where the guide says, runs, and changes nothing
that was made before.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from additions import add_benchmark, add_figure, add_rows, add_source
from conftest import ROOT, call, planned

pytestmark = pytest.mark.graph

MADE = ("results/table1.csv", "results/figure1a.png")
ADDED = ("results/mine.csv", "results/figure14.png", "claims")
SHARD = "results/smoke/data/packed/Bills/00000.tar"
# What a benchmark more runs again, of what has been made
ASKED_ANEW = [
    "predict_benchmarks", "predict_shuffled", "score_benchmarks", "score_shuffled", "make_table",
    "compare_table", "draw_radar", "copy_table", "copy_figure",
]  # fmt: skip
# Files that the guide names by their rooms
NEW = {"granvit/reporting/bars.py", "workflow_scripts/draw_bars.py"}


@pytest.fixture
def tracked(made):
    """A smoke run as a git repository."""
    for command in ("init", "--quiet"), ("add", "--all"):
        subprocess.run(["git", *command], cwd=made, check=True)
    return made


def test_what_is_added_runs_where_nothing_that_was_made_runs_again(tracked):
    add_rows(tracked)
    add_figure(tracked)
    assert "Nothing to be done" in call(tracked, "snakemake", "-n", *MADE)
    add_benchmark(tracked)  # every run is asked it, and none is trained for it
    assert planned(call(tracked, "snakemake", "-n", *MADE)).keys() == {*ASKED_ANEW}
    settings = ("--config", "comparison_seeds=[0]", "claims=[mine-helps]")
    call(tracked, "snakemake", *ADDED, *settings)
    table = pd.read_csv(tracked / "results/mine.csv").set_index("Run")
    assert list(table.index) == ["as in Table 3", "mine", "another encoder"]
    assert table[["Fine-Grained", "OCR", "Docs"]].notna().all(axis=None)
    bars = json.loads((tracked / "results/figure14.json").read_text())["bars"]
    assert bars == table["OCR"].to_dict()
    claims = pd.read_csv(tracked / "results/claims.csv").set_index("id")
    assert claims.loc["mine-helps", "verdict"] in {"holds", "fails", "undecided"}
    add_source(tracked)  # the last one: what is drawn from all sources is another mixture then
    call(tracked, "snakemake", SHARD)
    assert (tracked / SHARD).stat().st_size > 0
    assert planned(call(tracked, "snakemake", "-n", *MADE))["draw_mixture"] > 0
    assert touched(tracked) == named(tracked) | NEW


def touched(folder: Path) -> set[str]:
    """Tracked files that differ from what they were, and new ones that git does not ignore."""
    listed = ["git", "ls-files", "--modified", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=folder, check=True, capture_output=True, text=True).stdout.split()
    assert len(names) > 10
    return set(names)


def named(folder: Path) -> set[str]:
    """Those of them that stand in the guide."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    return {name for name in touched(folder) if name in guide}
