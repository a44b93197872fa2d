"""Score files as data frames: cells, and averages that are recomputed from the printed cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from granvit.config.tables import TablesFile
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import slug

AVERAGE = "Average"


def read_json(path: Path) -> dict[str, Any]:
    """A result's JSON. Raises GranvitError where it is missing, and says how to make it."""
    if not path.is_file():
        raise GranvitError(f"{path}: no such file, and a table needs it; make it with `snakemake {path}`")
    return json.loads(path.read_text(encoding="utf-8"))


def printed_rows(tables: TablesFile) -> list[tuple[str, str]]:
    """(capability, benchmark) of each row of Tables 1 and 8; each capability ends with its average."""
    return [(group, name) for group, names in tables.capabilities.items() for name in (*names, AVERAGE)]


class Scores:
    """The scores of one seed under ``root/{recipe}/seed{N}/{slug}.json``."""

    def __init__(self, root: str | Path, seed: int, tables: TablesFile) -> None:
        self.root, self.seed, self.tables = Path(root), seed, tables
        self.files: dict[Path, dict[str, Any]] = {}

    def file(self, recipe: str, benchmark: str) -> dict[str, Any]:
        """The content of a score file."""
        path = self.root / recipe / f"seed{self.seed}" / f"{slug(benchmark)}.json"
        if path not in self.files:
            self.files[path] = read_json(path)
        return self.files[path]

    def cell(self, recipe: str, name: str) -> float:
        """A printed cell, rounded as it is printed: percent, OCRBench out of 1000. Raises GranvitError where
        the benchmark's score lacks the split.
        """
        cell = self.tables.benchmarks[name]
        content = self.file(recipe, cell.benchmark)
        if cell.split is None:
            return round(content["score"], 2)
        if cell.split not in content.get("splits", {}):
            raise GranvitError(
                f"{self.root / recipe}: {slug(cell.benchmark)}.json: no split {cell.split}; the benchmark's "
                "file lacks it"
            )
        return round(content["splits"][cell.split]["score"], 2)

    def mean(self, recipe: str, names: Sequence[str]) -> float:
        """Mean of printed cells (OCRBench / 10), so that a reader gets the same from the table itself."""
        values = [self.cell(recipe, name) / self.tables.benchmarks[name].divide for name in names]
        return round(sum(values) / len(values), 2)

    def by_benchmark(self, recipes: Mapping[str, str]) -> pd.DataFrame:
        """The cells of Tables 1 and 8: rows as ``printed_rows`` has them, a column for each name in
        ``recipes`` (name -> recipe).
        """
        rows = pd.MultiIndex.from_tuples(printed_rows(self.tables), names=["capability", "benchmark"])

        def cell(recipe: str, capability: str, name: str) -> float:
            if name == AVERAGE:
                return self.mean(recipe, self.tables.capabilities[capability])
            return self.cell(recipe, name)

        columns = {name: [cell(recipe, *row) for row in rows] for name, recipe in recipes.items()}
        return pd.DataFrame(columns, index=rows)

    def column(self, recipe: str, column: str) -> float:
        """A column of a table of runs: a single benchmark as it is printed, or the mean of several."""
        names = self.tables.columns[column]
        return self.cell(recipe, names[0]) if len(names) == 1 else self.mean(recipe, names)
