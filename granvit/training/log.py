"""What a run keeps account of while it trains: the rows of training_log.csv, images skipped, time."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from granvit.files import write_csv
from granvit.training.heldout import METRICS

COLUMNS = (
    "step", "images", "loss", "loss_caption", "loss_distill", "grad_norm", "feature_norm", "cosine",
    "lr_encoder", "lr_projector", "lr_llm", *METRICS,
)  # fmt: skip
CONTROLS = ("loss_contrast",)  # docs/controls.md


class TrainingLog:
    """``done``: steps so far; ``rows``: of training_log.csv; ``skipped``: images that could not be read, by
    cause. A resumed run goes on with what ``state`` gave."""

    def __init__(self) -> None:
        self.done, self.rows, self.seconds = 0, [], 0.0
        self.sums: dict[str, float] = {}  # of each metric, since the row before
        self.since = 0  # steps that the sums are over
        self.skipped: Counter[str] = Counter()
        self.began = time.monotonic()

    def add(self, metrics: dict[str, float]) -> None:
        """Count one step's metrics into the next row."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.since += 1

    def end_row(self, images: int, rates: dict[str, float], heldout: dict[str, float]) -> None:
        """A row with the means since the row before; the first row, before any step, has held-out metrics
        only. ``images``: seen so far; ``rates``: learning rates by column."""
        means = {name: value / self.since for name, value in self.sums.items()}
        self.rows.append({"step": self.done, "images": images, **means, **heldout, **rates})
        self.sums, self.since = {}, 0

    def summary(self) -> dict:
        """What the manifest says of the training: metrics of the last row, images skipped by cause."""
        last = {name: value for name, value in self.rows[-1].items() if not name.startswith("lr_")}
        metrics = {name: None if value != value else value for name, value in last.items()}
        return {"metrics": metrics, "skipped": dict(sorted(self.skipped.items()))}

    def timing(self) -> dict[str, float]:
        """Seconds of training over all attempts, and images a second."""
        rate = self.rows[-1]["images"] / max(self._spent(), 1e-9)
        return {"seconds": round(self._spent(), 3), "images_per_second": round(rate, 2)}

    def state(self) -> dict:
        """All that a resumed run needs to go on."""
        return {
            "done": self.done, "rows": self.rows, "sums": self.sums, "since": self.since,
            "skipped": dict(self.skipped), "seconds": self._spent(),
        }  # fmt: skip

    def load(self, state: dict) -> None:
        """Take over what ``state`` gave."""
        self.done, self.rows, self.sums = state["done"], state["rows"], state["sums"]
        self.since, self.seconds = state["since"], state["seconds"]
        self.skipped = Counter(state["skipped"])

    def write(self, path: Path) -> None:
        """Write training_log.csv; a cell without a value, or with NaN, is empty. A control's own columns
        stand only where there is one."""
        columns = (*COLUMNS, *(name for name in CONTROLS if any(name in row for row in self.rows)))
        write_csv(path, columns, ([_cell(row.get(name)) for name in columns] for row in self.rows))

    def _spent(self) -> float:
        return self.seconds + time.monotonic() - self.began


def _cell(value: float | int | None) -> str:
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
