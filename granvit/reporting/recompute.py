"""Scores recomputed from predictions, without a model, and held against the score files and the tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from granvit.config.tables import TableSpec, required_benchmarks, required_leaves
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.judge import Judge
from granvit.evaluation.score import Say, score, write_score
from granvit.files import write_text
from granvit.reporting.tables import make_table

TOLERANCE = 1e-9
COMPARED = ("score", "n", "rule", "judge", "failed_extractions", "splits", "details")  # as first defined


@dataclass(frozen=True)
class Place:
    """Where the predictions of one run of a table are, and its score files."""

    predictions: Path
    scores: Path


def scores_of_folder(
    folder: Path, benchmarks: Sequence[Benchmark], data_dir: str, judge: Judge | None, say: Say
) -> dict[str, dict[str, Any]]:
    """benchmark -> score of every benchmark that the folder has predictions of."""
    made = [b for b in benchmarks if (folder / f"{b.slug}.jsonl").is_file()]
    if not made:
        raise GranvitError(f"{folder}: no predictions there; expected files like MMStar.jsonl")
    return {b.name: score(folder / f"{b.slug}.jsonl", b, data_dir, judge, say) for b in made}


def places_of_table(spec: TableSpec, results: Path, seed: int) -> tuple[dict[str, Place], dict[str, Place]]:
    """recipe -> place of the runs that fill a table, and of those that fill its chance column."""
    chance = [spec.layout.chance] if spec.layout.chance else []

    def place(root: Path, recipe: str) -> Place:
        return Place(root / "predictions" / recipe / f"seed{seed}", root / "scores" / recipe / f"seed{seed}")

    return (
        {recipe: place(results, recipe) for recipe in required_leaves(spec)},
        {recipe: place(results / "chance", recipe) for recipe in chance},
    )


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

    ``results``: the scale's folder. With ``write``, score files are written anew.
    """
    needed = set(required_benchmarks(spec))
    wanted = [benchmark for benchmark in benchmarks if benchmark.name in needed]
    runs, chances = places_of_table(spec, results, seed)
    differences: list[str] = []
    with TemporaryDirectory() as folder:
        for benchmark in wanted:  # so that a benchmark's file is read once for all models
            for root, places in (("scores", runs), ("chance", chances)):
                for recipe, place in places.items():
                    made = Path(folder, root, recipe, f"seed{seed}", f"{benchmark.slug}.json")
                    predictions = place.predictions / f"{benchmark.slug}.jsonl"
                    found = write_score(predictions, benchmark, data_dir, made, judge, say)
                    on_disk = place.scores / f"{benchmark.slug}.json"
                    differences += compare_scores(on_disk, found)
                    if write:
                        write_text(on_disk, made.read_text(encoding="utf-8"))
        out = Path(folder, "table.csv")
        make_table(
            spec, Path(folder, "scores"), scale, out, Path(folder, "table.md"),
            chance_root=Path(folder, "chance") if chances else None, seed=seed, runs_root=results,
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
