"""Fig. 5: scores against how many region pairs one stage learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from granvit.files import read_json
from granvit.reporting.drawing import GREY, save_figure
from granvit.reporting.scores import Scores

COLOURS = ("#1f4e5f", "#c8102e", "#55702f", "#8a5a2b")
TITLES = {"stage1": "Stage 1 (Bbox2Caption)", "stage2": "Stage 2 (Caption2Bbox)"}


def measured(
    points: Sequence[Mapping[str, str]], columns: Sequence[str], scores: Scores, mixtures: Mapping[str, Path]
) -> pd.DataFrame:
    """A row a point (``granvit.graph.figures.scaling_points``) and column: ``regions`` that the stage learned
    from, counted when its mixture was drawn (``mixtures``: its summary), ``score``, ``low`` and ``high``
    (95 %). Raises GranvitError for a score file or summary that is missing.
    """
    rows = []
    for point in points:
        regions = read_json(Path(mixtures[point["mixture"]]))["regions"]
        for column in columns:
            names = scores.tables.columns[column]
            low, high = scores.interval(point["recipe"], names)
            score = scores.printed(point["recipe"], names)
            rows.append(
                {**point, "column": column, "regions": regions, "score": score, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def scaling_curves(
    points: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    scores: Scores,
    mixtures: Mapping[str, Path],
    scale: str,
    out_png: str | Path,
    facts: dict[str, Any],
) -> None:
    """Draw a panel a stage and a line a column, on a logarithmic axis of region pairs; equal scores give
    equal bytes. ``facts``: for the sidecar (``save_figure``), to which the numbers are added. Raises
    GranvitError as ``measured`` does.
    """
    found = measured(points, columns, scores, mixtures)
    figure = Figure(figsize=(7.4, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, stage in zip(panels, TITLES, strict=True):
        _draw_panel(axes, found[found["stage"] == stage], columns)
        axes.set_title(TITLES[stage], fontsize=10)
    bottom, top = found["low"].min(), found["high"].max()
    panels[0].set(ylabel="score (%), 95 % interval", ylim=(max(0, bottom - 5), min(100, top + 5)))
    panels[0].legend(frameon=False, fontsize=9, loc="best")
    figure.suptitle(f"Figure 5. More regions in one stage ({scale} scale)", fontsize=11)
    figure.supxlabel(
        "region pairs that the stage learned from (log axis); the other stage is at its default",
        fontsize=8.5, color=GREY,
    )  # fmt: skip
    save_figure(figure, out_png, facts | {"measures": found.to_dict("records")})


def _draw_panel(axes: Axes, found: pd.DataFrame, columns: Sequence[str]) -> None:
    for column, colour in zip(columns, COLOURS, strict=False):
        line = found[found["column"] == column].sort_values("regions")
        errors = [line["score"] - line["low"], line["high"] - line["score"]]
        axes.errorbar(line["regions"], line["score"], yerr=errors, color=colour, marker="o", markersize=4,
                      capsize=3, linewidth=1.8, elinewidth=1, label=column)  # fmt: skip
    ticks = found.drop_duplicates("regions").sort_values("regions")
    labels = [
        f"{budget}\n{regions:,}"
        for budget, regions in zip(ticks["mixture"].str.rpartition("-")[2], ticks["regions"], strict=True)
    ]
    axes.set_xscale("log")
    axes.set_xticks(ticks["regions"], labels, fontsize=8)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.grid(axis="y", color="#d9dde2", linewidth=0.7)
    axes.set_axisbelow(True)
