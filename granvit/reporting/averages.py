"""The averages of Table 1 as JSON, for programs that follow numbers from commit to commit (`dvc metrics`)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from granvit.files import write_json
from granvit.reporting.scores import AVERAGE


def write_averages(table_csv: str | Path, out: str | Path) -> None:
    """Write capability -> model -> average, from the CSV of a table with a row a benchmark."""
    rows = pd.read_csv(table_csv).set_index(["capability", "benchmark"]).drop(columns="scale")
    averages = rows.xs(AVERAGE, level="benchmark")
    write_json(out, averages.to_dict("index"), sort_keys=False)
