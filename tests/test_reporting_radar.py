"""Fig. 1a: one common span for all axes, and intervals beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_reporting_comparison import SPECS, compared, world  # noqa: F401
from test_reporting_tables import results  # noqa: F401

from granvit.config.figures import load_figures
from granvit.errors import GranvitError
from granvit.reporting import figures
from granvit.reporting.figures import ACCENT, radar

SHARED = SPECS["table1"].shared
ROWS = [name for members in SHARED.capabilities.values() for name in members]


@pytest.fixture
def drawn(world, tmp_path, monkeypatch):  # noqa: F811
    """Draws Fig. 1a: the figure itself (its axes: radar, dots), as a function of its span."""
    compared(world, "table1")
    made = []
    keep = figures.save_figure
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, *rest: (made.append(figure), keep(figure, *rest))
    )

    def draw(span, name="a.png"):
        radar(world / "tables/comparison/table1.csv", SHARED, span, tmp_path / name, {"scale": "mini"})
        return made[-1]

    return draw


def of_granvit(axes):
    return [line for line in axes.lines if line.get_color() == ACCENT]


def test_all_axes_of_the_radar_share_one_span_that_the_picture_names(drawn, world):  # noqa: F811
    cells = pd.read_csv(world / "tables/comparison/table1.csv").set_index(["row", "column"])["reproduced"]
    divided = np.array([cells[name, "GranViT"] / SHARED.benchmarks[name].divide for name in ROWS])
    (polygon,) = of_granvit(drawn([0, 100]).axes[0])
    np.testing.assert_allclose(polygon.get_ydata()[:-1], divided / 100)
    figure = drawn([40, 80])
    (polygon,) = of_granvit(figure.axes[0])
    np.testing.assert_allclose(polygon.get_ydata()[:-1], np.clip((divided - 40) / 40, 0, 1))
    assert "runs from 40 to 80 %" in figure.texts[-1].get_text()
    assert "OCRBench is out of 1000: divided by 10" in figure.texts[-1].get_text()
    assert figure.axes[1].get_xlim() == (40, 80)


def test_each_dot_stands_in_its_interval(drawn):
    bars, dots = [], []
    for line in of_granvit(drawn([0, 100]).axes[1]):
        (bars if len(line.get_xdata()) == 2 else dots).append(line)
    assert len(bars) == len(dots) == len(ROWS) + len(SHARED.capabilities)
    for bar, dot in zip(bars, dots, strict=True):
        low, high = bar.get_xdata()
        assert low < dot.get_xdata()[0] < high and bar.get_ydata()[0] == dot.get_ydata()[0]


def test_nothing_is_cut_off_and_no_label_of_an_axis_lies_on_another(drawn):
    figure = drawn([0, 100])
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    places = [text.get_window_extent() for text in figure.axes[0].texts if not text.get_text().isdigit()]
    assert len(places) == len(ROWS)
    for at, place in enumerate(places):
        assert figure.bbox.x0 <= place.x0 and place.x1 < figure.axes[1].get_tightbbox().x0
        assert not any(place.padded(-1).overlaps(other) for other in places[at + 1 :])


def test_equal_cells_give_equal_bytes_and_the_papers_numbers_are_not_drawn(drawn, tmp_path, world):  # noqa: F811
    drawn([0, 100], "a.png")
    file = world / "tables/comparison/table1.csv"
    pd.read_csv(file).assign(reported=1.0, difference=2.0).to_csv(file, index=False)
    drawn([0, 100], "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert first | {"figure": "b"} == second and first["scale"] == "mini"
    file.unlink()
    with pytest.raises(GranvitError, match=r"table1\.csv: no such file; make it with"):
        drawn([0, 100])


def test_a_span_that_does_not_rise_is_refused(tmp_path):
    text = Path("config/figures.yaml").read_text()
    (tmp_path / "figures.yaml").write_text(text.replace("span: [0, 100]", "span: [60, 60]"))
    with pytest.raises(GranvitError, match=r"figure1a\.span.*must be below the second"):
        load_figures(tmp_path / "figures.yaml")
