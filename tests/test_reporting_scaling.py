"""Fig. 5: the right runs, shared where they are the same, and their scores over the regions they saw."""

from __future__ import annotations

import json

import pytest
from test_reporting_tables import SPECS, write_scores

from granvit.config.figures import load_figures
from granvit.errors import GranvitError
from granvit.graph.figures import scaling_points
from granvit.graph.runs import with_ancestors
from granvit.graph.scale import Scale
from granvit.reporting import scaling_figure
from granvit.reporting.scaling_figure import measured, scaling_curves
from granvit.reporting.scores import Scores

FIGURE5 = load_figures().figure5
SHARED = SPECS["table1"].shared
REGIONS = {"8M": 5000, "16M": 7500, "24M": 10000, "all": 12038}


@pytest.fixture(scope="module")
def paper():
    return Scale("paper")


def test_one_stage_sees_more_regions_and_the_other_stays_at_its_default(paper):
    budgets = {"stage1": [], "stage2": []}
    for point in scaling_points(paper, FIGURE5):
        mixtures = {run.stage: run.mixture for run in with_ancestors(paper, [point["recipe"]])}
        other = {"stage1": "stage2", "stage2": "stage1"}[point["stage"]]
        assert mixtures[other] == getattr(paper.config.stages, other).mixture
        assert mixtures[point["stage"]] == point["mixture"]
        budgets[point["stage"]].append(point["mixture"])
    assert budgets == {
        "stage1": [f"bbox2caption-{budget}" for budget in ("8M", "16M", "all")],
        "stage2": [f"caption2bbox-{budget}" for budget in ("8M", "16M", "24M", "all")],
    }


def test_runs_are_shared_with_table_1_and_with_each_other(paper):
    assert FIGURE5.stage1[-1] == FIGURE5.stage2[2] == "sft-granvit" and len(FIGURE5.leaves) == 6
    stages = [run.stage for run in with_ancestors(paper, FIGURE5.leaves)]
    assert [stages.count(name) for name in ("projector", "stage1", "stage2", "sft")] == [1, 3, 6, 6]
    odd = FIGURE5.model_copy(update={"stage2": ["sft-stage1-8m"]})
    with pytest.raises(GranvitError, match=r"figure5\.stage2: 'sft-stage1-8m' has no stage2 run before it"):
        scaling_points(paper, odd)


@pytest.fixture
def world(tmp_path, paper):
    """Points, scores (the n-th leaf scores 40 + n everywhere, +3/-2) and counts of mixtures."""
    for number, leaf in enumerate(FIGURE5.leaves):
        write_scores(tmp_path / "scores", leaf, lambda name, value=40.0 + number: value * scale_of(name))
    points, mixtures = scaling_points(paper, FIGURE5), {}
    for point in points:
        file = mixtures[point["mixture"]] = tmp_path / f"{point['mixture']}.json"
        file.write_text(json.dumps({"regions": REGIONS[point["mixture"].rpartition("-")[2]]}))
    return points, Scores(tmp_path / "scores", 0, SHARED), mixtures


def scale_of(name):
    return SHARED.benchmarks[name].divide


def test_scores_stand_over_the_regions_that_were_drawn(world):
    found = measured(world[0], FIGURE5.columns, *world[1:]).set_index(["stage", "mixture", "column"])
    assert len(found) == 2 * 7
    last = found.loc[("stage2", "caption2bbox-all", "OCR")]
    assert (last["recipe"], last["regions"], last["score"]) == ("sft-granvit-all", 12038, 45)
    assert last["low"] < 45 < last["high"]
    assert found.loc[("stage1", "bbox2caption-8M", "Fine-Grained"), "regions"] == 5000
    world[2]["bbox2caption-8M"].unlink()
    with pytest.raises(GranvitError, match=r"bbox2caption-8M\.json: no such file"):
        measured(world[0], FIGURE5.columns, *world[1:])


def test_the_figure_has_log_axes_and_its_numbers_beside_it(world, tmp_path, monkeypatch):
    made, keep = [], scaling_figure.save_figure
    monkeypatch.setattr(
        scaling_figure, "save_figure", lambda page, *rest: (made.append(page), keep(page, *rest))
    )
    points, scores, mixtures = world
    for name in ("a", "b"):
        out = tmp_path / f"{name}.png"
        scaling_curves(points, FIGURE5.columns, scores, mixtures, "mini", out, {"scale": "mini"})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    sidecar = json.loads((tmp_path / "a.json").read_text())
    assert len(sidecar["measures"]) == 14 and sidecar["measures"][0]["recipe"] == FIGURE5.stage1[0]
    for axes, budgets in zip(made[0].axes, (3, 4), strict=True):
        assert axes.get_xscale() == "log" and len(axes.get_xticklabels()) == budgets
        assert axes.get_legend_handles_labels()[1] == FIGURE5.columns
