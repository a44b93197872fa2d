"""Figures from tables: the radar of Fig. 1a."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from granvit.errors import GranvitError
from granvit.files import replacing
from granvit.reporting import markdown
from granvit.reporting.scores import AVERAGE

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  the backend is chosen before pyplot is imported
from matplotlib.lines import Line2D  # noqa: E402

INNER, RIM = 0.3, 1.0  # radius of the lowest and the highest model on each axis
PALETTE = [
    "#8c9aa8",
    "#c9a227",
    "#3b7dd8",
    "#4aa37a",
    "#9b6bb3",
    "#e08a3c",
]  # the last model is drawn in ACCENT
ACCENT = "#c8102e"
CAPABILITIES = {"Fine-Grained": "#1f4e5f", "VQA": "#8a5a2b", "Reasoning": "#6b6f80", "OCR": "#55702f"}


def radar(table1_csv: str | Path, out_png: str | Path) -> None:
    """Fig. 1a: one axis a benchmark, one polygon a model, from a Table 1 CSV; equal tables give equal bytes.

    An axis runs from its lowest model (inner ring) to its highest (rim); both values stand at its end.
    """
    rows, models, scale = _read(Path(table1_csv))
    angles = [2 * math.pi * i / len(rows) for i in range(len(rows))]
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9})
    figure = plt.figure(figsize=(10, 10.4))
    axes = figure.add_axes((0.125, 0.125, 0.75, 0.72), projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    _draw_grid(axes, rows, angles)
    _draw_models(axes, rows, models, angles)
    _draw_labels(axes, rows, angles)
    _draw_legends(figure, models, scale)
    save_figure(figure, Path(out_png))


def save_figure(figure: plt.Figure, path: Path) -> None:
    """Write a PNG under a temporary name, without the time or the software that made it, and close it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)


def _read(path: Path) -> tuple[list[tuple[str, str, list[float]]], list[str], str]:
    """(capability, benchmark, value a model) of each row but averages; the models; the scale."""
    if not path.is_file():
        raise GranvitError(f"{path}: no such table; make it with `snakemake {path}`")
    with open(path, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    models = [name for name in table[0] if name not in ("capability", "benchmark", "scale")]
    rows = [
        (row["capability"], row["benchmark"], [float(row[model]) for model in models])
        for row in table
        if row["benchmark"] != AVERAGE
    ]
    return rows, models, table[0]["scale"]


def _radius(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return INNER + (RIM - INNER) * (value - low) / (high - low) if high > low else RIM


def _draw_grid(axes: plt.Axes, rows: Sequence[tuple[str, str, list[float]]], angles: Sequence[float]) -> None:
    axes.set_ylim(0, 1.06)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["polar"].set_visible(False)
    turn = [2 * math.pi * i / 360 for i in range(361)]
    for radius in (INNER, (INNER + RIM) / 2, RIM):
        axes.plot(turn, [radius] * 361, color="#d9dde2", linewidth=0.8, zorder=1)
    half = math.pi / len(angles)
    for (capability, _, _), angle in zip(rows, angles, strict=True):
        axes.plot([angle, angle], [0, RIM], color="#e6e9ed", linewidth=0.7, zorder=1)
        arc = [angle + half * (i / 10 - 1) for i in range(21)]
        axes.plot(
            arc, [1.045] * 21, color=CAPABILITIES[capability], linewidth=4, solid_capstyle="butt", zorder=2
        )


def _draw_models(
    axes: plt.Axes,
    rows: Sequence[tuple[str, str, list[float]]],
    models: Sequence[str],
    angles: Sequence[float],
) -> None:
    closed = [*angles, angles[0]]
    for i, model in enumerate(models):
        radii = [_radius(values[i], values) for _, _, values in rows]
        radii.append(radii[0])
        if i == len(models) - 1:
            axes.fill(closed, radii, color=ACCENT, alpha=0.10, zorder=3)
            axes.plot(
                closed, radii, color=ACCENT, linewidth=2.4, marker="o", markersize=4, label=model, zorder=5
            )
        else:
            axes.plot(closed, radii, color=PALETTE[i], linewidth=1.2, alpha=0.9, label=model, zorder=4)


def _draw_labels(
    axes: plt.Axes, rows: Sequence[tuple[str, str, list[float]]], angles: Sequence[float]
) -> None:
    for (capability, benchmark, values), angle in zip(rows, angles, strict=True):
        across = math.sin(angle)
        align = "center" if abs(across) < 0.15 else "left" if across > 0 else "right"
        digits = 0 if benchmark == "OCRBench" else 1
        text = f"{benchmark.replace('_', ' ')}\n{min(values):.{digits}f} – {max(values):.{digits}f}"
        vertical = "center" if abs(across) >= 0.15 else "bottom" if math.cos(angle) > 0 else "top"
        axes.text(
            angle,
            1.10,
            text,
            ha=align,
            va=vertical,
            color=CAPABILITIES[capability],
            fontsize=8.5,
            linespacing=1.3,
        )


def _draw_legends(figure: plt.Figure, models: Sequence[str], scale: str) -> None:
    tag = markdown.scale_tag(scale)
    colours = [*PALETTE[: len(models) - 1], ACCENT]
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            linewidth=2.6 if colour == ACCENT else 1.6,
            label=markdown.marked(model, tag),
        )
        for model, colour in zip(models, colours, strict=True)
    ]
    figure.legend(
        handles=handles, loc="lower center", ncol=4, frameon=False, bbox_to_anchor=(0.5, 0.025), fontsize=9.5
    )
    bands = [Line2D([], [], color=colour, linewidth=5, label=name) for name, colour in CAPABILITIES.items()]
    figure.legend(
        handles=bands, loc="upper center", ncol=4, frameon=False, bbox_to_anchor=(0.5, 0.945), fontsize=9.5
    )
    figure.text(
        0.5,
        0.965,
        f"Vision encoders on 25 benchmarks ({scale} scale)",
        ha="center",
        fontsize=14,
        weight="bold",
    )
    note = "Each axis runs from its lowest model (inner ring) to its highest (rim); its end names both."
    figure.text(0.5, 0.012, note, ha="center", fontsize=8.5, color="#5b6570")
