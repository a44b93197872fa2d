"""What figures and the report depend on besides their files: runs, settings, and the names that are shown."""

from __future__ import annotations

import pytest

from granvit.config.figures import load_figures
from granvit.config.steps import ROOTS, Code
from granvit.config.tables import load_tables
from granvit.errors import GranvitError
from granvit.graph.figures import figure_facts, recipes_shown
from granvit.graph.report import runs_behind, shown
from granvit.graph.runs import with_ancestors
from granvit.graph.scale import Scale

FIGURES = load_figures()


@pytest.fixture(scope="module")
def mini() -> Scale:
    return Scale("mini")


@pytest.mark.parametrize(
    ("figure", "recipes"),
    [
        ("figure3", FIGURES.figure3.runs),
        ("figure4b", [*FIGURES.figure4b.runs.values()]),
        ("figure5", FIGURES.figure5.leaves),
        ("figure8", [*FIGURES.attention_maps.encoders.values()]),
        ("attention_maps", [*FIGURES.attention_maps.encoders.values()]),
    ],
)
def test_a_figure_shows_the_runs_of_its_section_in_their_order(figure, recipes):
    assert recipes_shown(FIGURES, figure) == recipes != []


@pytest.mark.parametrize("figure", ["figure3", "figure4a", "figure5", "figure13"])
def test_a_sidecar_says_the_recipes_with_their_hashes_and_the_settings_that_chose_them(mini, figure):
    facts = figure_facts(mini, FIGURES, figure, seed=7)
    assert facts["scale"] == "mini"
    assert facts["recipes"] == {name: mini.recipe(name).hash for name in recipes_shown(FIGURES, figure)}
    assert facts["settings"] == {"seed": 7} | getattr(FIGURES, figure).model_dump()


def test_a_sidecar_of_maps_says_which_encoders_and_which_points(mini):
    facts, points = figure_facts(mini, FIGURES, "figure1b", seed=7), FIGURES.figure1b
    assert [*facts["recipes"]] == [*FIGURES.attention_maps.encoders.values()]
    assert facts["settings"] == FIGURES.attention_maps.model_dump() | points.model_dump() | {"seed": 7}


def test_nothing_that_draws_a_figure_can_read_the_papers_numbers():
    """Figure 1a alone reads a file in which they stand beside ours; test_reporting_radar.py changes them."""
    drawing = {step for step, scripts in ROOTS.items() if scripts[0].startswith(("draw_", "map_"))}
    assert drawing > {"figure", "curves", "answer_figure", "maps", "map_figure", "pipeline", "scaling"}
    code = Code()
    reading = {step for step in drawing if "granvit.reporting.reported" in code.covered(step)}
    assert reading == {"figure"}


def test_a_figure_of_an_unknown_recipe_is_refused(mini):
    odd = FIGURES.figure3.model_copy(update={"runs": ["sft-granvid"]})
    with pytest.raises(GranvitError, match="'sft-granvid' is not a recipe"):
        figure_facts(mini, FIGURES.model_copy(update={"figure3": odd}), "figure3", seed=0)


def test_behind_a_report_stand_the_runs_of_its_tables_and_of_what_is_compared(mini):
    table1 = load_tables()["table1"]
    behind = runs_behind(mini, [table1], 0, [("sft-granvit", 0), ("sft-granvit", 2)])
    named = {(run.name, seed) for run, seed in behind}
    assert len(behind) == len(named) and [seed for _, seed in behind] == sorted(s for _, s in behind)
    more = {run.name for run in with_ancestors(mini, ["sft-granvit"])}
    assert {name for name, seed in named if seed == 2} == more
    first = {name for name, seed in named if seed == 0}
    assert first > more and set(table1.layout.models.values()) <= first
    assert runs_behind(mini, [], 0, []) == []


def test_unknown_tables_and_figures_are_refused():
    scale = Scale("smoke", {"report": {"tables": ["tabel1"], "figures": None}})
    assert shown(scale, "figures", ["f1", "f2"], ["f2", "f2"]) == ["f2"]
    with pytest.raises(GranvitError, match=r"report\.tables: there is no 'tabel1'.*table1"):
        shown(scale, "tables", ["table1"], ["table1"])
