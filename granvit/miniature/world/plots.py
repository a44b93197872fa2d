"""Charts and tables of the miniature, drawn by matplotlib on a 512 px figure with type that stays legible at
128 px.

As on the other documents, words begin at the left edge of a 64 px cell and stand on its baseline (`places`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from PIL import Image

from granvit.miniature.world.rendering import CANVAS, CELL, place

DPI = 72  # so that a point is a pixel
PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2")
TYPE_SIZE = 50  # px
_CHART_COLUMNS = (0, 3, 6)
_TABLE_ROWS = (2, 4, 6)


def places(kind: str, title: str, entries: Sequence) -> list[tuple[str, int, int]]:
    """Every printed string of a ``chart`` or ``table`` with the grid column and row of the cell that it
    begins in."""
    printed = [(title, 3, 0)]
    for entry, column, row in zip(entries, _CHART_COLUMNS, _TABLE_ROWS, strict=True):
        cells = ((column, 7), (column, 6)) if kind == "chart" else ((1, row), (5, row))
        printed += [(entry.label, *cells[0]), (str(entry.value), *cells[1])]
    return printed


@cache
def _type(name: str) -> FontProperties:
    family = "DejaVu Serif" if "Serif" in name else "DejaVu Sans Mono" if "Mono" in name else "DejaVu Sans"
    return FontProperties(family=family, weight="bold", size=TYPE_SIZE)


def _figure(kind: str, title: str, entries: Sequence, font_name: str) -> Figure:
    """A figure with all its words; lines and bars come after, underneath."""
    figure = Figure(figsize=(CANVAS / DPI, CANVAS / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    for text, column, row in places(kind, title, entries):
        x, y = place(column, row)
        style = {"fontproperties": _type(font_name), "color": "#101010", "zorder": 5}
        figure.text(x / CANVAS, 1 - y / CANVAS, text, ha="left", va="baseline", **style)
    return figure


def _pixels(figure: Figure) -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def bar_chart(title: str, entries: Sequence, font_name: str, rng: np.random.Generator) -> Image.Image:
    """A bar chart of entries (``label``, ``value``): the bar, its value at its foot and its label under
    it."""
    figure = _figure("chart", title, entries, font_name)
    axes = figure.add_axes((0, CELL / CANVAS, 1, 1 - 2 * CELL / CANVAS), xlim=(0, CANVAS), zorder=1)
    axes.set_axis_off()
    colours = [PALETTE[int(i)] for i in rng.choice(len(PALETTE), size=len(entries), replace=False)]
    lefts = [column * CELL for column in _CHART_COLUMNS]
    values = [entry.value for entry in entries]
    axes.bar(lefts, values, width=1.9 * CELL, align="edge", color=colours)
    # The value stands on a white plate at the foot of its bar, whatever the bar's height.
    plate = CELL / (CANVAS - 2 * CELL) * max(values) * 1.1
    axes.bar(lefts, [plate] * len(values), width=1.9 * CELL, align="edge", color="#f4f4f4")
    axes.set_ylim(0, max(values) * 1.1)
    return _pixels(figure)


def table(title: str, entries: Sequence, font_name: str, rng: np.random.Generator) -> Image.Image:
    """A two-column table of entries (``label``, ``value``) with ruled cells under a title."""
    figure = _figure("table", title, entries, font_name)
    figure.patch.set_facecolor(str(rng.choice(["#ffffff", "#eef3fa", "#f6f1e7"])))
    edges = [row * CELL - 26 for row in (*_TABLE_ROWS, _TABLE_ROWS[-1] + 2)]
    rules = [((40, 472), (y, y)) for y in edges] + [((x, x), (102, 486)) for x in (40, 270, 472)]
    for xs, ys in rules:
        ends = [x / CANVAS for x in xs], [1 - y / CANVAS for y in ys]
        figure.add_artist(Line2D(*ends, color="#303030", linewidth=3))
    return _pixels(figure)
