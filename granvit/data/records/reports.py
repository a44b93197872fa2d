"""What became of every image and box: the shards' counts and rejects, summed for people (Sec. 3, "Filtering
Criteria").
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pandas as pd

from granvit.data.records.records import COUNT_COLUMNS, REJECT_COLUMNS
from granvit.errors import GranvitError
from granvit.files import write_csv
from granvit.progress import say

TOTAL = "TOTAL"
REPORT_COLUMNS = ["source", "step", "what", "cause", "count", "regions", "example"]
STEPS = {"ingested": "ingest", "annotated": "annotate"}  # a step by the folder that it writes

_OUTCOME = "all"  # what a shard's filters did together: it stands behind the rules


def filter_report(counts: Iterable[str | Path], out_csv: str | Path, log: str | Path | None = None) -> None:
    """Sum the shards' counts by source, mode and rule, the rules in the order in which they apply; source
    ``TOTAL`` sums over the sources.

    ``counts``: counts files (columns ``COUNT_COLUMNS``) of ingest, annotate and filter, those of earlier
    steps first. In mode ``sequence`` a rule's ``in`` is what the rules above it left, but for ``annotate``
    and ``all``, which are the outcomes of their steps; in modes ``alone`` and ``off`` (a rule that drops
    nothing) it is what came to the filters. Where sources differ in their rules, ``TOTAL`` does not chain.

    Three lines a source go to the console and the ``log``. Raises GranvitError for a source of which nothing
    is left, saying which rule took how many.
    """
    tables = [_read(Path(path), COUNT_COLUMNS, COUNT_COLUMNS[3:]) for path in counts]
    orders = [rules.unique() for table in tables for _, rules in table.groupby("mode", sort=False)["rule"]]
    place = {rule: at for at, rule in enumerate(_merged(orders))}
    rows = pd.concat(tables)
    sums = pd.concat([rows, rows.assign(source=TOTAL)]).groupby(COUNT_COLUMNS[:3]).sum()
    ordered = sorted(sums.itertuples(), key=lambda row: _position(*row[0], place))
    write_csv(out_csv, COUNT_COLUMNS, ([*key, *values] for key, *values in ordered))
    outcomes = [outcome for source in rows["source"].unique() if (outcome := _outcome(source, ordered))]
    for outcome in outcomes:
        for line in outcome.lines():
            say(log, line)
    empty = [outcome.nothing_left() for outcome in outcomes if not outcome.images[1]]
    if empty:
        raise GranvitError("; ".join(empty))


@dataclass(frozen=True)
class _Outcome:
    """What became of a source: ``(in, out)`` of its images and regions, and how many of both each rule took,
    in the order of the rules."""

    source: str
    images: tuple[int, int]
    regions: tuple[int, int]
    taken: list[tuple[str, int, int]]

    def lines(self) -> Iterator[str]:
        """For people: in, out, and the two rules that took the largest shares."""
        (images, images_left), (regions, regions_left) = self.images, self.regions
        largest = sorted(self.taken, key=lambda t: -max(t[1] / max(images, 1), t[2] / max(regions, 1)))[:2]
        yield f"{self.source} | in: {images:,} images, {regions:,} regions"
        yield f"{self.source} | out: {images_left:,} images, {regions_left:,} regions"
        yield f"{self.source} | most taken by: {_listed(largest) or 'no rule'}"

    def nothing_left(self) -> str:
        return (
            f"source {self.source!r}: nothing is left of {self.images[0]} images and {self.regions[0]} "
            f"regions; taken by {_listed(self.taken)}. If the images are small, or the boxes fractions or in "
            "another layout, correct the row or its `options` (docs/data.md); otherwise change "
            "data.filters, or take the row out of the sources file"
        )


def _listed(taken: list[tuple[str, int, int]]) -> str:
    return ", ".join(f"{rule} ({images:,} images, {regions:,} regions)" for rule, images, regions in taken)


def _outcome(source: str, rows: Iterable[Any]) -> _Outcome | None:
    """That of one source, by the summed rows; None where its filters have not run."""
    counts = {rule: values for (of, mode, rule), *values in rows if (of, mode) == (source, "sequence")}
    if _OUTCOME not in counts:
        return None
    came = counts.get("ingest", counts[_OUTCOME])
    # Annotators find regions: what came in is what went out and what was taken.
    taken = [
        (rule, images_in - images_out, regions_in - regions_out)
        for rule, (images_in, images_out, regions_in, regions_out) in counts.items()
        if rule not in (_OUTCOME, "annotate")
    ]
    regions_left = counts[_OUTCOME][3]
    return _Outcome(
        source,
        (came[0], counts[_OUTCOME][1]),
        (regions_left + sum(regions for *_, regions in taken), regions_left),
        [rule for rule in taken if rule[1] or rule[2]],
    )


def reject_report(rejects: Iterable[str | Path], out_csv: str | Path) -> None:
    """Count what was left out by source, step, what it was (image, region, caption, conversation) and cause.

    ``rejects``: the files ``{ingested|annotated}/{source}/{shard}.rejects.csv`` (columns ``key, what, cause,
    regions, path``). ``regions`` sums the boxes that went with it, ``example`` is the first path by name. A
    source that lost nothing has no row.
    """
    found = []
    for path in map(Path, rejects):
        source, folder = path.parent.name, path.parent.parent.name
        if folder not in STEPS:
            raise GranvitError(
                f"{path}: is not in a folder of a step that rejects; expected {' or '.join(STEPS)}"
                "/{source}/{shard}.rejects.csv"
            )
        of_shard = _read(path, REJECT_COLUMNS, ["regions"]).groupby(["what", "cause"])
        # At once: a shard may list millions
        counted = of_shard.agg(size=("regions", "size"), sum=("regions", "sum"), example=("path", "min"))
        counted = counted.reset_index()
        found.append(counted.assign(source=source, step=list(STEPS).index(folder)))
    sums = pd.concat(found).groupby(["source", "step", "what", "cause"])
    sums = sums.agg({"size": "sum", "sum": "sum", "example": "min"}).reset_index()
    rows = sums.replace({"step": dict(enumerate(STEPS.values()))})
    write_csv(out_csv, REPORT_COLUMNS, rows.itertuples(index=False))


def _read(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """A shard's CSV; a missing or foreign file is an error that says how to make it."""
    if not path.is_file():
        raise GranvitError(f"{path}: no such file; make it with `snakemake {path}`")
    with open(path, encoding="utf-8", newline="") as file:
        header = next(csv.reader(file), [])
    if columns == REJECT_COLUMNS and header == REJECT_COLUMNS[:-1]:
        columns = header  # of shards ingested before paths were listed
    if header != list(columns):
        raise GranvitError(
            f"{path}: columns are {', '.join(header) or 'missing'}; expected {', '.join(columns)}. Delete "
            f"the file and make it again with `snakemake {path}`"
        )
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in numbers:
        for value in table[column][~table[column].str.fullmatch("[0-9]+", na=False)]:
            raise GranvitError(
                f"{path}: {column} is {value!r}; expected a whole number. Delete the file and make it again"
            )
    if columns == REJECT_COLUMNS[:-1]:
        table = table.assign(path="")
    return table.astype(dict.fromkeys(numbers, int))


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """One order of all rules that keeps each file's own, steps in the order given.

    Sources differ in the rules that are on, so no single file shows them all. Rules that no file orders stay
    as they were met.
    """
    met = list(dict.fromkeys(rule for order in orders for rule in order))
    before: dict[str, set[str]] = {rule: set() for rule in met}
    for order in orders:
        for first, second in zip(order, order[1:], strict=False):
            before[second].add(first)
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError:  # settings changed between two shards; any order will do
        return met
    ordered: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=met.index)
        ordered.append(ready.pop(0))
        sorter.done(ordered[-1])
    return ordered


def _position(source: str, mode: str, rule: str, place: dict[str, int]) -> tuple:
    return source == TOTAL, source, mode, rule == _OUTCOME, place[rule]
