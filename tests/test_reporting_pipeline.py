"""Fig. 3 says what the configuration says: change a stage, and the figure changes."""

from __future__ import annotations

import pytest
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from granvit.errors import GranvitError
from granvit.graph.figures import pipeline
from granvit.graph.scale import Scale
from granvit.reporting.pipeline_figure import draw_pipeline, number, pipeline_page

RUNS = ["projector-siglip2", "stage1-granvit", "stage2-granvit", "sft-granvit"]


def panels(changes=None, scale="paper", runs=RUNS):
    return pipeline(Scale(scale, changes), runs)


def words(shown):
    page = pipeline_page(shown, "paper")
    return [text.get_text().replace("\n", " ") for text in page.findobj(Text) if text.get_text()]


def test_the_papers_stages_learn_what_the_paper_says():
    learns = {panel["stage"]: [part for part, on in panel["learns"].items() if on] for panel in panels()}
    assert learns == {
        "projector": ["projector"],
        "stage1": ["encoder", "projector"],
        "stage2": ["projector", "llm"],
        "sft": ["encoder", "projector", "llm"],
    }
    assert "Teacher" not in words(panels(runs=["stage1-8m-nodistill"]))
    shown = words(panels())
    assert shown.count("frozen") == 4 and shown.count("learns, rate 1e-5") == 7
    assert "Loss: L_caption + 1 · L_distill" in shown and shown.count("Teacher") == 1
    assert "Data: caption2bbox-24M, 24 M region pairs" in shown
    assert "Tasks: Global caption, Bbox2Caption" in shown and "Tasks: Global caption, Caption2Bbox" in shown


@pytest.mark.parametrize(
    ("stage", "change", "gone", "come"),
    [
        ("stage2", {"trains": {"projector": False}}, "learns, rate 1e-5", "frozen"),
        ("stage1", {"distillation": {"weight": 0.7}}, "Loss: L_caption + 1 · L_distill",
         "Loss: L_caption + 0.7 · L_distill"),
        ("stage1", {"distillation": {"ema_decay": 0.95}}, "α = 0.9", "α = 0.95"),
        ("stage2", {"learning_rate": {"llm": 0.002}}, "learns, rate 1e-5", "learns, rate 0.002"),
        ("stage2", {"batch_size": 128}, "1 epoch, 256 images a step", "1 epoch, 128 images a step"),
    ],
)  # fmt: skip
def test_a_changed_stage_changes_the_figure(tmp_path, stage, change, gone, come):
    before, after = panels(), panels({"stages": {stage: change}})
    old, new = words(before), words(after)
    assert new.count(gone) == old.count(gone) - 1 and new.count(come) == old.count(come) + 1
    for name, shown in (("before", before), ("again", panels()), ("after", after)):
        draw_pipeline(shown, "paper", tmp_path / f"{name}.png", {})
    before, again, after = ((tmp_path / f"{name}.png").read_bytes() for name in ("before", "again", "after"))
    assert before == again != after


@pytest.mark.parametrize("runs", [RUNS, ["stage1-8m-l0.01-a0.9", "continued-granvit", "stage2-8m-both"]])
def test_every_text_lies_inside_its_panel(runs):
    page = pipeline_page(panels(scale="mini", runs=runs), "mini")
    page.canvas.draw()
    frames = [box.get_window_extent() for box in page.findobj(FancyBboxPatch)]
    frames = [frame for frame in frames if frame.height > page.bbox.height / 2]
    texts = [text for text in page.findobj(Text) if text.get_text() and "Figure 3" not in text.get_text()]
    assert len(frames) == len(runs) and len(texts) > 15 * len(runs)
    for text in texts:
        place = text.get_window_extent()
        inside = [f.x0 <= place.x0 and place.x1 <= f.x1 and f.y0 <= place.y0 for f in frames]
        assert any(inside), text.get_text()


def test_unknown_runs_are_refused_and_numbers_are_written_as_people_do():
    with pytest.raises(GranvitError, match="'stage3' is not a recipe"):
        panels(runs=["stage3"])
    assert [number(value) for value in (1e-5, 8e6, 7500, 0.5, 2.0)] == ["1e-5", "8 M", "7,500", "0.5", "2"]
