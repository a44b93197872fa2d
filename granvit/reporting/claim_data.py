"""What claims are tested on, read from a scale's results: scores of all runs on the same resampled questions,
attention in boxes, and held-out metrics of training logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from granvit.config.claims import Endpoint, members
from granvit.config.tables import TableSpec
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, slug
from granvit.evaluation.recount import recount
from granvit.evaluation.resampling import Member, over_seeds, resampled, seed_noise
from granvit.evaluation.uncertainty import Point

Run = tuple[str, int]  # recipe and seed


class NotMadeError(Exception):
    """Why a claim cannot be made from the results that are there."""


@dataclass(frozen=True)
class Measured:
    """An endpoint of some recipes: ``scores`` (recipes,), means over seeds, and resamples of them, ``drawn``
    (resamples, recipes); ``questions``: or boxes, behind each."""

    recipes: list[str]
    scores: np.ndarray
    drawn: np.ndarray
    questions: int


class Answers:
    """Scores behind the claims of one family: of ``runs`` (each recipe at each seed) the points of
    ``benchmarks``, from verdicts and score files under ``results``.

    Raises GranvitError for files that are missing or do not fit each other.
    """

    def __init__(
        self,
        results: Path,
        data_dir: str | Path,
        benchmarks: Sequence[Benchmark],
        tables: Mapping[str, TableSpec],
        recipes: Sequence[str],
        seeds: Sequence[int],
        resamples: int,
    ) -> None:
        self.recipes, self.seeds, self.resamples = list(recipes), list(seeds), resamples
        self.tables, self.shared = tables, next(iter(tables.values())).shared
        self.tsv = {one.name: one.tsv for one in benchmarks}
        self.points: dict[str, list[Sequence[Point]]] = {}
        self.full: dict[str, int] = {}
        for one in benchmarks:  # in their order, so that a file is read once
            self.points[one.name] = []
            for recipe, seed in self._runs:
                place = f"{recipe}/seed{seed}/{one.slug}"
                files = (results / "verdicts" / f"{place}.jsonl", results / "scores" / f"{place}.json")
                scored = recount(one, data_dir, *files)
                self.points[one.name].append(scored.points)
                self.full[one.name] = scored.full
        self._measured: dict[tuple[tuple[str, ...], ...], Measured] = {}

    @property
    def _runs(self) -> list[Run]:
        return [(recipe, seed) for recipe in self.recipes for seed in self.seeds]

    def measure(self, endpoint: Endpoint) -> Measured:
        """An endpoint of all recipes, as the tables print it. Raises NotMadeError where the benchmark's file
        lacks a split."""
        groups = members(endpoint, dict(self.tables))
        key = tuple(map(tuple, groups))
        if key not in self._measured:
            single = sum(map(len, groups)) == 1
            addends = [
                self._member(name, single, 1 / len(groups) / len(group)) for group in groups for name in group
            ]
            scores, drawn = resampled(addends, self.resamples)
            shape = (len(self.recipes), len(self.seeds))
            by_run, draws = scores.reshape(shape), drawn.reshape(-1, *shape)
            questions = sum(len(addend.runs[0]) for addend in addends)
            means = over_seeds(draws, seed_noise(by_run, draws), [*self.recipes, *map(str, key)])
            self._measured[key] = Measured(self.recipes, by_run.mean(axis=1), means, questions)
        return self._measured[key]

    def _member(self, name: str, single: bool, share: float) -> Member:
        cell = self.shared.benchmarks[name]
        runs: list[Sequence[Point]] = self.points[cell.benchmark]
        if cell.split:
            runs = [[Point(p.unit, "", p.value) for p in points if p.part == cell.split] for points in runs]
        if not runs[0]:
            raise NotMadeError(f"{self.tsv[cell.benchmark]} has no split {cell.split} at this scale")
        unit = self.full[cell.benchmark] / (1 if single else cell.divide)
        return Member(self.tsv[cell.benchmark], unit * share, runs)


class Boxes:
    """Attention in boxes of held-out images, of each recipe at each seed."""

    def __init__(self, results: Path, recipes: Sequence[str], seeds: Sequence[int], resamples: int) -> None:
        self.results, self.recipes, self.seeds = results, list(recipes), list(seeds)
        self.resamples = resamples

    @cached_property
    def _rows(self) -> list[pd.DataFrame]:
        return [self._read(recipe, seed) for recipe in self.recipes for seed in self.seeds]

    def _read(self, recipe: str, seed: int) -> pd.DataFrame:
        file = self.results / "locality" / recipe / f"seed{seed}.parquet"
        if not file.is_file():
            raise GranvitError(f"{file}: no such file; make it with `snakemake {file}`")
        rows = pd.read_parquet(file)
        return rows.assign(box=rows["box"].map(lambda box: str(list(box)))).set_index(["key", "box"])

    def measure(self, endpoint: Endpoint) -> Measured:
        """A measure's mean over the boxes where it has a value for all runs; images are what is drawn. Raises
        NotMadeError where there is no such box."""
        columns = []
        for rows in self._rows:
            chosen = rows if endpoint.data_type == "all" else rows[rows["data_type"] == endpoint.data_type]
            found = chosen[str(endpoint.attention)].astype(float)
            columns.append(found[~found.index.duplicated()])
        values = pd.concat(columns, axis=1, join="inner").dropna()
        if values.empty:
            kind = endpoint.data_type
            raise NotMadeError(f"no box of data type '{kind}' has {endpoint.attention} in every run")
        keys = values.index.get_level_values("key")
        runs = [_points(keys, values.iloc[:, place]) for place in range(len(columns))]
        scores, drawn = resampled([Member(str(endpoint.attention), 1.0, runs)], self.resamples)
        shape = (len(self.recipes), len(self.seeds))
        by_run, draws = scores.reshape(shape), drawn.reshape(-1, *shape)
        means = over_seeds(draws, seed_noise(by_run, draws), [*self.recipes, endpoint.name])
        return Measured(self.recipes, by_run.mean(axis=1), means, len(values))


def _points(keys: Sequence[str], values: pd.Series) -> list[Point]:
    return [Point(key, "", float(value)) for key, value in zip(keys, values, strict=True)]


def last_metric(results: Path, stage: str, run: Run, endpoint: Endpoint) -> float:
    """The last value of a held-out metric (``less`` another) in a training log, in percent. Raises
    GranvitError for a log that is missing, NotMadeError for one without such a value."""
    recipe, seed = run
    file = results / stage / recipe / f"seed{seed}" / "training_log.csv"
    if not file.is_file():
        raise GranvitError(f"{file}: no such training log; make it with `snakemake {file}`")
    log, found = pd.read_csv(file), []
    for name in filter(None, (endpoint.heldout, endpoint.less)):
        values = log[name].dropna() if name in log else pd.Series(dtype=float)
        if values.empty:
            raise NotMadeError(f"{recipe}, seed {seed}: its training log holds no {name}")
        found.append(100 * float(values.iloc[-1]))
    return found[0] - sum(found[1:])


def benchmarks_named(benchmarks: Sequence[Benchmark], names: Sequence[str]) -> list[Benchmark]:
    """Those of the benchmarks that are named, in their own order."""
    wanted = {slug(name) for name in names}
    return [one for one in benchmarks if one.slug in wanted]
