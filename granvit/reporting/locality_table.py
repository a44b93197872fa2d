"""attention_locality.csv: the paper's claim that an encoder "concentrates on local regions", as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from granvit.errors import GranvitError
from granvit.evaluation.uncertainty import Point, bootstrap_interval, mean_score
from granvit.files import write_csv

COLUMNS = (
    "encoder", "measure", "data_type", "mean", "low", "high", "boxes", "images", "recipe", "scale",
)  # fmt: skip
ALL = "all"
NOT_MEASURED = ("key", "data_type", "box", "share")


def make_locality(
    files: Mapping[str, str | Path], recipes: Mapping[str, str], scale: str, out_csv: str | Path
) -> None:
    """Write each encoder's mean of each measure over all held-out boxes, and over those of each data type,
    with the 95 % bootstrap interval over images: boxes on one image rise and fall together.

    ``files``: encoder -> its rows (``granvit.evaluation.locality``); ``recipes``: encoder -> its run.
    ``boxes``, ``images``: those where the measure has a value. Raises GranvitError for a file that is
    missing.
    """
    lines = []
    for encoder, file in files.items():
        if not Path(file).is_file():
            raise GranvitError(f"{file}: no such file; make it with `snakemake {file}`")
        rows = pd.read_parquet(file)
        lines += [[encoder, *line, recipes[encoder], scale] for line in _lines(rows)]
    write_csv(out_csv, COLUMNS, lines)


def _lines(rows: pd.DataFrame) -> Iterator[list]:
    kinds = {ALL: rows} | dict(iter(rows.groupby("data_type")))
    for measure in rows.columns.drop(list(NOT_MEASURED)):
        for kind, part in kinds.items():
            found = part.dropna(subset=[measure])
            points = [
                Point(key, kind, value) for key, value in zip(found["key"], found[measure], strict=True)
            ]
            if points:
                numbers = (mean_score(points), *bootstrap_interval(points))
                cells = [f"{number:.4f}" for number in numbers]
                yield [measure, kind, *cells, len(points), found["key"].nunique()]
