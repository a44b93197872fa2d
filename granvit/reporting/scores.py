"""Score files as data frames: cells, and averages that are recomputed from the printed cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from granvit.config.tables import TablesFile
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks, slug
from granvit.files import read_json

AVERAGE = "Average"


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
        return round(self._content(recipe, name)["score"], 2)

    def _content(self, recipe: str, name: str) -> dict[str, Any]:
        """What a score file says behind a printed cell: all of it, or of the cell's split."""
        cell = self.tables.benchmarks[name]
        content = self.file(recipe, cell.benchmark)
        if cell.split is None:
            return content
        if cell.split not in content.get("splits", {}):
            raise GranvitError(
                f"{self.root / recipe}: {slug(cell.benchmark)}.json: no split {cell.split}; the benchmark's "
                "file lacks it"
            )
        return content["splits"][cell.split]

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
        return self.printed(recipe, self.tables.columns[column])

    def printed(self, recipe: str, names: Sequence[str]) -> float:
        """One benchmark as it is printed, or the mean of several."""
        return self.cell(recipe, names[0]) if len(names) == 1 else self.mean(recipe, names)

    def questions(self, recipe: str, names: Sequence[str]) -> int:
        """How many questions stand behind a cell."""
        return sum(self._content(recipe, name)["n"] for name in names)

    def interval(self, recipe: str, names: Sequence[str]) -> tuple[float, float]:
        """95 % interval of ``printed``, in its unit: one benchmark's own (bootstrap over its questions).

        Of a mean, the members' distances to their ends are propagated: within one TSV file (RefCOCO's splits
        share images, so they rise and fall together) they add up, between files as root of the sum of
        squares. Members of one file that are in truth independent make it wider than it need be. Raises
        GranvitError for a score file of an older version, without an interval.
        """
        value = self.printed(recipe, names)
        by_file: dict[str, list[float]] = {}
        for name in names:
            low, high, score = (part / self._unit(names, name) for part in self._bounds(recipe, name))
            sums = by_file.setdefault(_tsv_files()[self.tables.benchmarks[name].benchmark], [0.0, 0.0])
            sums[0] += max(0.0, score - low)
            sums[1] += max(0.0, high - score)
        below, above = (math.hypot(*ends) / len(names) for ends in zip(*by_file.values(), strict=True))
        return round(value - below, 2), round(value + above, 2)

    def _unit(self, names: Sequence[str], name: str) -> int:
        return self.tables.benchmarks[name].divide if len(names) > 1 else 1

    def _bounds(self, recipe: str, name: str) -> tuple[float, float, float]:
        """Low and high end of a member's interval, and its score."""
        content = self._content(recipe, name)
        if "interval" not in content:
            place = (
                self.root
                / recipe
                / f"seed{self.seed}"
                / f"{slug(self.tables.benchmarks[name].benchmark)}.json"
            )
            raise GranvitError(f"{place}: no interval of {name}; score it again with `snakemake -f {place}`")
        return *content["interval"], content["score"]


@cache
def _tsv_files() -> dict[str, str]:
    return {benchmark.name: benchmark.tsv for benchmark in load_benchmarks()}
