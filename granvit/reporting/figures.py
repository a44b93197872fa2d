"""Figures from tables: the radar of Fig. 1a."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from granvit.errors import GranvitError
from granvit.reporting import markdown
from granvit.reporting.drawing import save_figure
from granvit.reporting.scores import AVERAGE

INNER, RIM = 0.3, 1.0  # radius of the lowest and the highest model on each axis
PALETTE = ["#8c9aa8", "#c9a227", "#3b7dd8", "#4aa37a", "#9b6bb3", "#e08a3c"]
ACCENT = "#c8102e"  # of the last model
CAPABILITIES = {"Fine-Grained": "#1f4e5f", "VQA": "#8a5a2b", "Reasoning": "#6b6f80", "OCR": "#55702f"}


def radar(table1_csv: str | Path, out_png: str | Path, facts: dict[str, Any]) -> None:
    """Fig. 1a: one axis a benchmark, one polygon a model, from a Table 1 CSV; equal tables give equal bytes.

    An axis runs from its lowest model (inner ring) to its highest (rim); both values stand at its end. Raises
    GranvitError where the table is missing.
    """
    if not Path(table1_csv).is_file():
        raise GranvitError(f"{table1_csv}: no such table; make it with `snakemake {table1_csv}`")
    table = pd.read_csv(table1_csv, float_precision="round_trip")
    rows = table[table["benchmark"] != AVERAGE].set_index(["capability", "benchmark"])
    values = rows.drop(columns="scale")  # a row an axis, a column a model
    angles = [2 * math.pi * i / len(values) for i in range(len(values))]
    with rc_context({"font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(10, 10.4))
        axes = figure.add_axes((0.125, 0.125, 0.75, 0.72), projection="polar")
        axes.set_theta_zero_location("N")
        axes.set_theta_direction(-1)
        _draw_grid(axes, values, angles)
        _draw_models(axes, values, angles)
        _draw_labels(axes, values, angles)
        _draw_legends(figure, list(values), table["scale"][0])
        save_figure(figure, out_png, facts)


def _draw_grid(axes: Axes, values: pd.DataFrame, angles: list[float]) -> None:
    axes.set_ylim(0, 1.06)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["polar"].set_visible(False)
    turn = [2 * math.pi * i / 360 for i in range(361)]
    for radius in (INNER, (INNER + RIM) / 2, RIM):
        axes.plot(turn, [radius] * 361, color="#d9dde2", linewidth=0.8, zorder=1)
    half = math.pi / len(angles)
    for (capability, _), angle in zip(values.index, angles, strict=True):
        axes.plot([angle, angle], [0, RIM], color="#e6e9ed", linewidth=0.7, zorder=1)
        arc = [angle + half * (i / 10 - 1) for i in range(21)]
        band = {"color": CAPABILITIES[capability], "linewidth": 4, "solid_capstyle": "butt"}
        axes.plot(arc, [1.045] * 21, **band, zorder=2)


def _draw_models(axes: Axes, values: pd.DataFrame, angles: list[float]) -> None:
    low, high = values.min(axis=1), values.max(axis=1)
    span = (high - low).where(high > low)  # without a span, all models are on the rim
    radii = (INNER + (RIM - INNER) * values.sub(low, axis=0).div(span, axis=0)).fillna(RIM)
    closed = [*angles, angles[0]]
    *others, last = ((name, [*column, column.iloc[0]]) for name, column in radii.items())
    for (name, radius), colour in zip(others, PALETTE[: len(others)], strict=True):
        axes.plot(closed, radius, color=colour, linewidth=1.2, alpha=0.9, label=name, zorder=4)
    name, radius = last
    axes.fill(closed, radius, color=ACCENT, alpha=0.10, zorder=3)
    axes.plot(closed, radius, color=ACCENT, linewidth=2.4, marker="o", markersize=4, label=name, zorder=5)


def _draw_labels(axes: Axes, values: pd.DataFrame, angles: list[float]) -> None:
    for ((capability, benchmark), row), angle in zip(values.iterrows(), angles, strict=True):
        across = math.sin(angle)
        sideways = abs(across) >= 0.15
        digits = 0 if benchmark == "OCRBench" else 1
        axes.text(
            angle,
            1.10,
            f"{benchmark.replace('_', ' ')}\n{row.min():.{digits}f} – {row.max():.{digits}f}",
            ha=("left" if across > 0 else "right") if sideways else "center",
            va="center" if sideways else "bottom" if math.cos(angle) > 0 else "top",
            color=CAPABILITIES[capability],
            fontsize=8.5,
            linespacing=1.3,
        )


def _draw_legends(figure: Figure, models: list[str], scale: str) -> None:
    tag = markdown.scale_tag(scale)
    colours = [*PALETTE[: len(models) - 1], ACCENT]
    lines = [
        Line2D(
            [],
            [],
            color=colour,
            linewidth=2.6 if colour == ACCENT else 1.6,
            label=markdown.marked(model, tag),
        )
        for model, colour in zip(models, colours, strict=True)
    ]
    bands = [Line2D([], [], color=colour, linewidth=5, label=name) for name, colour in CAPABILITIES.items()]
    look = {"ncol": 4, "frameon": False, "fontsize": 9.5}
    figure.legend(handles=lines, loc="lower center", bbox_to_anchor=(0.5, 0.025), **look)
    figure.legend(handles=bands, loc="upper center", bbox_to_anchor=(0.5, 0.945), **look)
    title = f"Vision encoders on 25 benchmarks ({scale} scale)"
    figure.text(0.5, 0.965, title, ha="center", fontsize=14, weight="bold")
    note = "Each axis runs from its lowest model (inner ring) to its highest (rim); its end names both."
    figure.text(0.5, 0.012, note, ha="center", fontsize=8.5, color="#5b6570")
