"""The paper's own numbers (`config/reported`): its files, a number as it prints one, a cell by its names."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pandas as pd

from granvit.config.tables import RunRow, TableSpec
from granvit.errors import GranvitError
from granvit.reporting.scores import AVERAGE

Reported = Callable[[str | None, str, str, str], str]


_POWERS = {"": 0, "K": 3, "M": 6, "G": 9, "T": 12}  # of ten


def read_printed(path: str | Path) -> pd.DataFrame:
    """A file of the paper's numbers, all cells as text. Raises GranvitError where it is missing."""
    if not Path(path).is_file():
        raise GranvitError(
            f"{path}: the paper's numbers are missing; restore the file with `git checkout -- {path}`"
        )
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def read_number(text: str) -> Decimal:
    """A printed number: ``27.63M`` is 2763E+4, whose exponent says the unit of the last digit printed. Raises
    GranvitError for what is no number."""
    found = re.fullmatch(r"(-?[\d,]+(?:\.\d+)?)([KMGT]?)", text.strip())
    if not found:
        raise GranvitError(f"config/reported: '{text}' is no number; expected 91.79, 1269, 325K or 27.63M")
    return Decimal(found[1].replace(",", "")).scaleb(_POWERS[found[2]])


def read_reported(spec: TableSpec, path: str | Path) -> Reported:
    """A look-up of the paper's printed numbers: (LLM, model, group, benchmark) -> text, "-" where none is
    printed. Raises GranvitError where the file is missing.
    """
    printed = read_printed(path)
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
