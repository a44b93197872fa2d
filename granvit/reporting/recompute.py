"""Scores recomputed from predictions, without a model, and held against the score files and the tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from granvit.config.tables import TableSpec, required_benchmarks, required_leaves
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.judge import Judge
from granvit.evaluation.score import Say, write_score
from granvit.files import write_json
from granvit.reporting.tables import make_table

TOLERANCE = 1e-9
COMPARED = ("score", "n", "rule", "judge", "failed_extractions", "splits", "details")  # as first defined


def recompute_table(
    spec: TableSpec,
    benchmarks: Sequence[Benchmark],
    data_dir: str,
    results: Path,
    scale: str,
    seed: int,
    judge: Judge | None,
    say: Say,
    write: bool = False,
) -> tuple[str, list[str]]:
    """A table's CSV from predictions alone, and one line for each number on disk that is not the one found.

    ``results``: the scale's folder. With ``write``, score files and verdicts are written anew.
    Raises GranvitError where predictions are missing or belong to other data.
    """
    needed, chance = set(required_benchmarks(spec)), spec.layout.chance
    runs = [("", recipe) for recipe in required_leaves(spec)] + ([("chance", chance)] if chance else [])
    differences: list[str] = []
    with TemporaryDirectory() as folder:
        for benchmark in benchmarks:  # in this order a benchmark's file is read once for all models
            for root, recipe in runs if benchmark.name in needed else ():
                predictions = (
                    results / root / "predictions" / recipe / f"seed{seed}" / f"{benchmark.slug}.jsonl"
                )
                score_file = Path(root, "scores", recipe, f"seed{seed}", f"{benchmark.slug}.json")
                verdicts = results / root / "verdicts" / recipe / f"seed{seed}" / predictions.name
                found = write_score(
                    predictions, benchmark, data_dir, Path(folder, score_file), judge, say,
                    verdicts if write else None,
                )  # fmt: skip
                differences += compare_scores(results / score_file, found)
                if write:
                    write_json(results / score_file, found, sort_keys=False)
        out = Path(folder, "table.csv")
        make_table(
            spec, Path(folder, "scores"), scale, out, Path(folder, "table.md"),
            chance_root=Path(folder, "chance", "scores") if chance else None, seed=seed, runs_root=results,
        )  # fmt: skip
        return out.read_text(encoding="utf-8"), differences


def compare_scores(path: Path, found: dict[str, Any]) -> Iterator[str]:
    """A line for each number of a score file that differs; older files lack some keys, which is no
    difference.
    """
    if not path.is_file():
        yield f"{path}: no such file"
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    for key in COMPARED:
        if not (key in stored or key == "score"):
            continue
        if not alike(stored.get(key), found.get(key)):
            yield f"{path}: {key} is {stored.get(key)}, recomputed {found.get(key)}"


def alike(stored: Any, found: Any) -> bool:
    """Equal, numbers within `TOLERANCE`."""
    if isinstance(stored, dict) and isinstance(found, dict):
        return stored.keys() == found.keys() and all(alike(stored[key], found[key]) for key in stored)
    if isinstance(stored, (int, float)) and isinstance(found, (int, float)):
        return abs(stored - found) <= TOLERANCE
    return stored == found


def compare_cells(path: Path, found: str) -> Iterator[str]:
    """A line for each cell of a table's CSV that differs."""
    if not path.is_file():
        yield f"{path}: no such file"
        return
    stored = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    rows = list(csv.reader(io.StringIO(found)))
    if len(stored) != len(rows) or stored[0] != rows[0]:
        yield f"{path}: {len(stored)} rows with columns {stored[0]}, recomputed {len(rows)} with {rows[0]}"
        return
    for old, new in zip(stored[1:], rows[1:], strict=True):
        for column, was, now in zip(rows[0], old, new, strict=True):
            if was != now:
                yield f"{path}: {' '.join(new[:2])}, {column}: {was}, recomputed {now}"
