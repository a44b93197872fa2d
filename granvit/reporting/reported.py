"""The paper's own numbers (`config/reported/results.csv`), by the names that tables print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from granvit.config.tables import RunRow, TableSpec
from granvit.errors import GranvitError
from granvit.reporting.scores import AVERAGE

Reported = Callable[[str | None, str, str, str], str]


def read_reported(spec: TableSpec, path: str | Path) -> Reported:
    """A look-up of the paper's printed numbers: (LLM, model, group, benchmark) -> text, "-" where none is
    printed. Raises GranvitError where the file is missing.
    """
    if not Path(path).is_file():
        raise GranvitError(
            f"{path}: the paper's numbers are missing; restore the file with `git checkout -- {path}`"
        )
    printed = pd.read_csv(path, dtype=str, keep_default_na=False)
    printed = printed[printed["table"] == spec.number].replace({"model": spec.shared.spelling})
    values = {}
    for row in printed.itertuples():
        for llm in (None, row.llm):
            values[llm, row.model, row.group, row.benchmark] = row.value
    return lambda llm, model, group, benchmark: values.get((llm, model, group, benchmark), "-")


def reported_cell(reported: Reported, row: RunRow, column: str) -> str:
    """A column is an average of its group, a group of its own (FLOPs), or a benchmark without a group."""
    llm, model = row.label.get("LLM"), row.reported or list(row.label.values())[-1]
    found = [reported(llm, model, *key) for key in ((column, AVERAGE), (column, column), ("", column))]
    return next((text for text in found if text != "-"), "-")
