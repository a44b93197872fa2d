"""Fig. 1a: the models of Table 1 on one common span, as a radar and, to be read where they are close, as
dots with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from granvit.config.tables import TablesFile
from granvit.errors import GranvitError
from granvit.reporting import markdown
from granvit.reporting.comparison import CHANCE
from granvit.reporting.drawing import GREY, INK, save_figure
from granvit.reporting.scores import AVERAGE

PALETTE = ["#7a8794", "#b8901a", "#3b7dd8", "#3a9168", "#8d55ab", "#d8742a"]
ACCENT = "#c8102e"  # of the last model
CAPABILITIES = {"Fine-Grained": "#1f4e5f", "VQA": "#8a5a2b", "Reasoning": "#6b6f80", "OCR": "#55702f"}
VALUES = ["reproduced", "low", "high"]
_WIDTH, _HEIGHT = 11.0, 10.2  # inches
_RINGS = 4


def radar(
    comparison_csv: str | Path,
    tables: TablesFile,
    span: Sequence[float],
    out_png: str | Path,
    facts: dict[str, Any],
) -> None:
    """Draw Table 1's cells, a file of ``compare_table``: equal cells give equal bytes.

    Every axis runs from ``span``'s first number (centre) to its second (rim), in %; what lies outside is
    drawn at its edge. A benchmark that is out of 1000 (OCRBench) is divided as its averages divide it.
    ``facts``: for the sidecar (``save_figure``). Raises GranvitError where the file is missing.
    """
    if not Path(comparison_csv).is_file():
        raise GranvitError(f"{comparison_csv}: no such file; make it with `snakemake {comparison_csv}`")
    cells = pd.read_csv(comparison_csv, float_precision="round_trip")
    cells = cells[cells["column"] != CHANCE]
    models, scale = list(cells["column"].drop_duplicates()), cells["scale"].iloc[0]
    divisors = cells["row"].map({name: cell.divide for name, cell in tables.benchmarks.items()}).fillna(1)
    cells[VALUES] = cells[VALUES].div(divisors, axis=0)
    by_row = cells.set_index(["row", "column"])[VALUES]
    divided = [name for name, cell in tables.benchmarks.items() if cell.divide != 1]
    colours = dict(zip(models, [*PALETTE[: len(models) - 1], ACCENT], strict=True))
    with rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        circle = figure.add_axes((0.1, 0.475, 0.33, 0.33 * _WIDTH / _HEIGHT), projection="polar")
        _draw_radar(circle, by_row["reproduced"].unstack("column")[models], tables, span, colours)
        _draw_dots(figure.add_axes((0.665, 0.06, 0.32, 0.86)), by_row, tables, span, colours)
        _draw_words(figure, colours, scale, span, sum(map(len, tables.capabilities.values())), divided)
        save_figure(figure, out_png, facts)


def _draw_radar(
    axes: Axes, values: pd.DataFrame, tables: TablesFile, span: Sequence[float], colours: dict[str, str]
) -> None:
    """One axis a benchmark, one polygon a model (``values``: a row a benchmark, a column a model)."""
    names = [(group, name) for group, members in tables.capabilities.items() for name in members]
    angles = np.linspace(0, 2 * math.pi, len(names), endpoint=False)
    _draw_grid(axes, span, angles)
    half = math.pi / len(names)
    for (group, name), angle in zip(names, angles, strict=True):
        arc = np.linspace(angle - half, angle + half, 21)
        axes.plot(arc, [1.045] * 21, color=CAPABILITIES[group], linewidth=4, solid_capstyle="butt", zorder=2)
        _label(axes, angle, name.replace("_", " ", 1).replace("_", "\n"), CAPABILITIES[group])
    low, high = span
    radii = ((values.loc[[name for _, name in names]] - low) / (high - low)).clip(0, 1)
    for model, colour in colours.items():
        closed = [*radii[model], radii[model].iloc[0]]
        last = colour == ACCENT
        look = {"linewidth": 2.2, "marker": "o", "markersize": 3.5} if last else {"linewidth": 1.1}
        axes.plot([*angles, angles[0]], closed, color=colour, zorder=5 if last else 4, **look)
        if last:
            axes.fill([*angles, angles[0]], closed, color=colour, alpha=0.10, zorder=3)


def _draw_grid(axes: Axes, span: Sequence[float], angles: np.ndarray) -> None:
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set(ylim=(0, 1.06), xticks=[], yticks=[])
    axes.spines["polar"].set_visible(False)
    turn = np.linspace(0, 2 * math.pi, 361)
    for angle in angles:
        axes.plot([angle, angle], [0, 1], color="#e6e9ed", linewidth=0.7, zorder=1)
    for ring in range(1, _RINGS + 1):
        axes.plot(turn, [ring / _RINGS] * len(turn), color="#d9dde2", linewidth=0.8, zorder=1)
    for ring in range(_RINGS + 1):
        value = span[0] + (span[1] - span[0]) * ring / _RINGS
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
        axes.text(angles[1] / 2, ring / _RINGS, f"{value:g}", fontsize=7.5, color=GREY, ha="center",
                  va="center", zorder=6, bbox=box)  # fmt: skip


def _label(axes: Axes, angle: float, text: str, colour: str) -> None:
    across, up = math.sin(angle), math.cos(angle)
    sideways = abs(across) >= 0.05
    axes.text(
        angle,
        1.10,
        text,
        ha=("left" if across > 0 else "right") if sideways else "center",
        va="top" if up < -0.95 else "center" if sideways else "bottom",
        color=colour,
        fontsize=8.5,
        linespacing=1.1,
    )


def _draw_dots(
    axes: Axes, values: pd.DataFrame, tables: TablesFile, span: Sequence[float], colours: dict[str, str]
) -> None:
    """A band a benchmark or average, and in it a dot with its interval a model."""
    rows = []
    for group, members in tables.capabilities.items():
        rows += [(group, name, name) for name in members] + [(group, f"{group} {AVERAGE}", f"{group} mean")]
    for at, (group, row, shown) in enumerate(rows):
        mean = row.endswith(AVERAGE)
        if at % 2 or mean:
            axes.axhspan(at - 0.5, at + 0.5, color="#e9edf1" if mean else "#f6f7f9", linewidth=0, zorder=0)
        for number, (model, colour) in enumerate(colours.items()):
            value, low, high = values.loc[(row, model)].clip(*span)
            lane = at + 0.78 * ((number + 0.5) / len(colours) - 0.5)
            axes.plot([low, high], [lane, lane], color=colour, linewidth=1.1, zorder=2)
            axes.plot(value, lane, color=colour, marker="o", markersize=2.9, zorder=3)
        look = {"color": CAPABILITIES[group], "fontsize": 9, "weight": "bold" if mean else "normal"}
        place = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
        axes.text(-0.02, at, shown.replace("_", " "), **place, **look)
    axes.set(xlim=span, ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.set_xlabel("score (%) with its 95 % interval", color=INK)
    axes.grid(axis="x", color="#d9dde2", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _draw_words(
    figure: Figure,
    colours: dict[str, str],
    scale: str,
    span: Sequence[float],
    benchmarks: int,
    divided: list[str],
) -> None:
    tag = markdown.scale_tag(scale)
    lines = [
        Line2D([], [], color=colour, linewidth=2.6 if colour == ACCENT else 1.6, marker="o", markersize=4,
               label=markdown.marked(model, tag))
        for model, colour in colours.items()
    ]  # fmt: skip
    bands = [Line2D([], [], color=colour, linewidth=5, label=name) for name, colour in CAPABILITIES.items()]
    figure.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.265, 0.41), ncol=2, frameon=False)
    figure.legend(handles=bands, loc="upper center", bbox_to_anchor=(0.265, 0.915), ncol=4, frameon=False,
                  columnspacing=1.2, handlelength=1.4)  # fmt: skip
    title = f"Figure 1a. Vision encoders on {benchmarks} benchmarks ({scale} scale)"
    figure.text(0.02, 0.955, title, fontsize=14, weight="bold", color=INK)
    notes = [
        f"Every axis, in the radar and among the dots, runs from {span[0]:g} to {span[1]:g} %.",
        *(f"{name} is out of 1000: divided by 10 here." for name in divided),
        "Where models are close, read the dots: bars are 95 % bootstrap",
        "intervals over questions; those of means are propagated.",
    ]
    figure.text(0.06, 0.27, "\n".join(notes), fontsize=9, color=GREY, va="top", linespacing=1.5)
