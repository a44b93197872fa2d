"""Fig. 4a: both region tasks on held-out images, while stage 1 and then stage 2 learn them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from granvit.errors import GranvitError
from granvit.reporting.drawing import save_figure

CURVES = {
    "heldout_rouge_l": ("Bbox2Caption (ROUGE-L)", "#1f4e5f"),
    "heldout_acc_iou50": ("Caption2Bbox (ACC@IoU0.5)", "#c8102e"),
}


def heldout_curves(
    logs: Sequence[Sequence[str | Path]], out_png: str | Path, scale: str, facts: dict[str, Any]
) -> None:
    """Draw the held-out columns (0-1, shown in %) of ``logs``, training_log.csv of stage 1 and of stage 2, a
    list of seeds each, one stage behind the other over the images seen; equal logs give equal bytes.

    Lines are means over the seeds; where there are several, a band runs from the lowest to the highest.
    ``facts``: for the sidecar (``save_figure``). Raises GranvitError for a log that is missing or holds no
    such evaluation.
    """
    stages = [_over_seeds([_read(Path(log)) for log in seeds]) for seeds in logs]
    seeds = max(map(len, logs))
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    begin = 0
    for number, stage in enumerate(stages, 1):
        images = begin + stage.index
        for column, (label, colour) in CURVES.items():
            mean, low, high = (100 * stage[column][of] for of in ("mean", "min", "max"))
            if seeds > 1:
                axes.fill_between(images, low, high, color=colour, alpha=0.18, linewidth=0)
            shown = label if number == 1 else None
            axes.plot(images, mean, color=colour, linewidth=2, marker="o", markersize=3, label=shown)
        middle = begin + stage.index.max() / 2
        axes.text(middle, 1.02, f"stage {number}", ha="center", transform=axes.get_xaxis_transform())
        begin += stage.index.max()
        if number < len(stages):
            axes.axvline(begin, color="#8c9aa8", linewidth=1, linestyle="--")
    axes.set(xlabel="images seen", ylabel="held-out score (%)", ylim=(0, 100))
    band = f"; mean, lowest and highest of {seeds} seeds" if seeds > 1 else "; one seed"
    axes.legend(frameon=False)
    axes.set_title(f"Figure 4a. Both tasks in each stage ({scale} scale{band})", pad=22, fontsize=11)
    save_figure(figure, out_png, facts)


def _over_seeds(logs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean, min and max of each held-out column by images seen."""
    return pd.concat(logs).groupby("images")[list(CURVES)].agg(["mean", "min", "max"])


def _read(path: Path) -> pd.DataFrame:
    """Rows of a training log at which the held-out images were asked about."""
    if not path.is_file():
        raise GranvitError(f"{path}: no such training log; make it with `snakemake {path}`")
    rows = pd.read_csv(path)
    rows = rows.dropna(subset=[column for column in CURVES if column in rows], how="all")
    if set(CURVES) - set(rows.columns) or rows.empty:
        raise GranvitError(
            f"{path}: holds no held-out evaluation; set eval_every and eval_images of its stage in "
            "config/config.yaml and train it again"
        )
    return rows
