"""Scores of several sets of predictions as one table: a row a benchmark or a split, a column a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.xlsx import write_sheet
from granvit.files import write_csv, write_text
from granvit.reporting import markdown

KINDS = (".csv", ".md", ".xlsx")

Scores = Mapping[str, Mapping[str, Any]]  # benchmark -> content of its score file


def check_kind(out: str | Path) -> None:
    """Raise GranvitError for a file that is none of `KINDS`."""
    if Path(out).suffix not in KINDS:
        raise GranvitError(f"{out}: expected a file that ends with one of {', '.join(KINDS)}")


def rows(columns: Mapping[str, Scores], benchmarks: Sequence[Benchmark]) -> list[list[str | int | float]]:
    """A header, then a row for each benchmark that a column has, and for each of its splits; a score that a
    column lacks is an empty text. The judge stands last: where columns were read otherwise, all are named.
    """
    table: list[list[str | int | float]] = [["Capability", "Benchmark", "Questions", *columns, "Judge"]]
    for benchmark in benchmarks:
        files = [scores.get(benchmark.name) for scores in columns.values()]
        known = [file for file in files if file]
        if not known:
            continue
        judge = "; ".join(dict.fromkeys(file["judge"] for file in known))
        head = [benchmark.capability, benchmark.name, known[0]["n"]]
        table.append([*head, *(file["score"] if file else "" for file in files), judge])
        for split in dict.fromkeys(name for file in known for name in file.get("splits", {})):
            parts = [file.get("splits", {}).get(split) if file else None for file in files]
            number = next(part["n"] for part in parts if part)
            shown = [part["score"] if part else "" for part in parts]
            table.append([benchmark.capability, f"{benchmark.name}: {split}", number, *shown, judge])
    return table


def render(columns: Mapping[str, Scores], benchmarks: Sequence[Benchmark]) -> str:
    """The table as Markdown."""
    header, *body = rows(columns, benchmarks)
    shown = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in body]
    return markdown.table(list(map(str, header)), shown, left=2)


def write(out: str | Path, columns: Mapping[str, Scores], benchmarks: Sequence[Benchmark]) -> None:
    """Write the table; the suffix says as what. Raises GranvitError as `check_kind` does."""
    check_kind(out)
    if Path(out).suffix == ".md":
        write_text(out, render(columns, benchmarks))
    elif Path(out).suffix == ".csv":
        header, *body = rows(columns, benchmarks)
        write_csv(out, header, body)
    else:
        write_sheet(out, rows(columns, benchmarks))
