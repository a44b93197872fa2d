"""Charts and tables of the miniature, drawn by matplotlib on a 512 px figure with type that stays legible at 128 px."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

from granvit.miniature.rendering import CANVAS

DPI = 72  # so that a point is a pixel
PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2")


@cache
def _type(name: str, size: int) -> FontProperties:
    family = "DejaVu Serif" if "Serif" in name else "DejaVu Sans Mono" if "Mono" in name else "DejaVu Sans"
    return FontProperties(family=family, weight="bold", size=size)


def _figure() -> Figure:
    figure = Figure(figsize=(CANVAS / DPI, CANVAS / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Figure) -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def bar_chart(title: str, entries: Sequence, font_name: str, rng: np.random.Generator) -> Image.Image:
    """A bar chart: a bar, a label under it and the value above it for each entry (``label``, ``value``)."""
    figure = _figure()
    axes = figure.add_axes((0.04, 0.13, 0.92, 0.70))
    colours = [PALETTE[int(i)] for i in rng.choice(len(PALETTE), size=len(entries), replace=False)]
    values = [entry.value for entry in entries]
    axes.bar(range(len(entries)), values, color=colours, width=0.6)
    axes.set_xlim(-0.5, len(entries) - 0.5)
    axes.set_ylim(0, max(values) * 1.25)
    axes.set_yticks([])
    axes.set_xticks(range(len(entries)), [entry.label for entry in entries], fontproperties=_type(font_name, 44))
    for x, value in enumerate(values):
        axes.text(x, value, str(value), ha="center", va="bottom", fontproperties=_type(font_name, 48))
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.text(0.5, 0.985, title, ha="center", va="top", fontproperties=_type(font_name, 52))
    return _pixels(figure)


def table(title: str, entries: Sequence, font_name: str, rng: np.random.Generator) -> Image.Image:
    """A two-column table (``label``, ``value``) with ruled cells under a title."""
    figure = _figure()
    axes = figure.add_axes((0.08, 0.04, 0.84, 0.74))
    axes.set_axis_off()
    drawn = axes.table(
        cellText=[[entry.label, str(entry.value)] for entry in entries],
        cellColours=[[str(rng.choice(["#ffffff", "#eef3fa", "#f6f1e7"]))] * 2 for _ in entries],
        cellLoc="center", colWidths=[0.6, 0.4], bbox=(0, 0, 1, 1),
    )  # fmt: skip
    drawn.auto_set_font_size(False)
    for cell in drawn.get_celld().values():
        cell.set_text_props(fontproperties=_type(font_name, 54))
        cell.set_linewidth(3)
    figure.text(0.5, 0.97, title, ha="center", va="top", fontproperties=_type(font_name, 54))
    return _pixels(figure)
