"""The images of what is inspected: a raw source through its adapter and ingest, or shards that are made."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from granvit.config.data import Data
from granvit.data.records.filters import Rule, on_images, rules_for
from granvit.data.records.records import REJECT_COLUMNS, Record, Reject, hash_key
from granvit.data.records.shards import RawSample, read_raw_shard, read_shard, shard_records
from granvit.data.sources.catalogue import catalogue_source, read_catalogue
from granvit.data.sources.ingest import Reading
from granvit.data.sources.table import SourceSpec
from granvit.errors import GranvitError
from granvit.reporting.inspection.seen import Seen, judged, rejected

Shown = tuple[Seen, bytes | None]  # what became of an image, and its file's bytes where it can be read
_PURPOSE = "inspect"


@dataclass
class _Entry:
    """What ingest says of an image before it gives it."""

    key: str
    rejects: list[Reject]
    path: str
    is_read: bool


class _Notes:
    """Stands for ingest's ledger of a shard: keeps the last entries instead of counting them."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []

    def add(self, key: str, regions: int | None, rejects: list[Reject], path: str) -> None:
        """As ``granvit.data.sources.rejects.Ledger.add``."""
        self.entries.append(_Entry(key, rejects, path, regions is not None))


class RawSource(AbstractContextManager):
    """A source's raw data. ``keys``: of all its images, one that came twice included twice.

    Where a model is still to find the boxes, only the rules on the images themselves apply.
    """

    def __init__(self, source: SourceSpec, data: Data) -> None:
        self.source, self.data = source, data
        self.annotated_later = source.boxes in ("detector", "ocr")
        self.what = f"raw data in {source.path}, adapter {source.adapter}"
        self._folder = TemporaryDirectory()
        self._catalogue = Path(self._folder.name) / "catalogue.sqlite"
        try:
            catalogue_source(source, self._catalogue)
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._folder.cleanup()

    def keys(self) -> Iterator[str]:
        for shard in range(self.source.shards):
            for key, _, _ in read_catalogue(self._catalogue, shard):
                yield key

    def images(self, wanted: Callable[[str], bool]) -> Iterator[Shown]:
        """The images whose keys are wanted. Raises GranvitError where an address cannot be read."""
        for shard in range(self.source.shards):
            notes, reading = _Notes(), Reading(self.source, self.data.max_image_pixels, wanted)
            for sample in reading.samples(shard, self._catalogue, notes):
                yield from _unread(notes)
                entry, record = notes.entries.pop(), sample.record
                yield judged(record, self._rules(record), entry.rejects, entry.path), sample.image
            yield from _unread(notes)

    def _rules(self, record: Record) -> list[Rule]:
        rules = self.data.filters.of(record.data_type)
        if record.data_type != "instruction" and self.annotated_later:
            return on_images(rules)
        return rules_for(record, rules)


def _unread(notes: _Notes) -> Iterator[Shown]:
    """The entries of images that cannot be used, taken out of the notes."""
    for entry in [entry for entry in notes.entries if not entry.is_read]:
        notes.entries.remove(entry)
        yield rejected(entry.key, entry.path, entry.rejects), None


class Shards(AbstractContextManager):
    """Shards that the workflow made: packed ones, or with ``data_folder`` and ``source`` all that came before
    them, so that what rejects and filters took is there, too."""

    annotated_later = False

    def __init__(self, tars: Iterable[Path], data: Data, of: SourceSpec | None = None) -> None:
        self.tars, self.data, self.source = list(tars), data, of
        folder = self.tars[0].parent
        self.root = folder.parent.parent if of else folder
        whole = of is not None and all(self._before(tar) for tar in self.tars)
        self.steps = whole
        self.what = f"shards in {folder}" if not whole else f"shards in {self.root}, from ingest on"
        if not whole:
            self.what += " (what the filters left; the steps before are not there)"

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def keys(self) -> Iterator[str]:
        for tar in self.tars:
            records, lists = (self._before(tar), self._lists(tar)) if self.steps else (tar, [])
            yield from (record.key for record in shard_records(records))
            yield from (row["key"] for path in lists for row in _rows(path) if row["what"] == "image")

    def images(self, wanted: Callable[[str], bool]) -> Iterator[Shown]:
        """The images whose keys are wanted. Raises GranvitError for a damaged shard."""
        for tar in self.tars:
            yield from self._steps(tar, wanted) if self.steps else self._packed(tar, wanted)

    def _packed(self, tar: Path, wanted: Callable[[str], bool]) -> Iterator[Shown]:
        for sample in read_shard(tar):
            if wanted(sample.record.key):
                path = sample.record.provenance.get("file", "")
                yield judged(sample.record, [], [], path), sample.image

    def _steps(self, tar: Path, wanted: Callable[[str], bool]) -> Iterator[Shown]:
        lost: dict[str, list[Reject]] = {}
        gone: list[Seen] = []
        for row in (row for path in self._lists(tar) for row in _rows(path) if wanted(row["key"])):
            reject = Reject(row["what"], row["cause"], int(row["regions"]))
            if reject.what == "image":
                gone.append(rejected(row["key"], row.get("path") or "", [reject]))
            else:
                lost.setdefault(row["key"], []).append(reject)
        image = _in_step(read_raw_shard(self.root / "ingested" / tar.parent.name / tar.name))
        for record in shard_records(self._before(tar)):
            data = image(record.key)
            if wanted(record.key):
                rules = rules_for(record, self.data.filters.of(record.data_type))
                path = record.provenance.get("file", "")
                yield judged(record, rules, lost.get(record.key, []), path), data
        yield from ((seen, None) for seen in gone)

    def _before(self, tar: Path) -> Path | None:
        """The records as they came to the filters; None where they, or the images, are gone."""
        name, ingested = tar.parent.name, self.root / "ingested" / tar.parent.name / tar.name
        records = ingested
        if self.source and self.source.is_annotated:
            records = self.root / "annotated" / name / f"{tar.stem}.jsonl"
        return records if ingested.is_file() and records.is_file() else None

    def _lists(self, tar: Path) -> list[Path]:
        places = [self.root / step / tar.parent.name / f"{tar.stem}.rejects.csv"
                  for step in ("ingested", "annotated")]  # fmt: skip
        return [path for path in places if path.is_file()]


def _in_step(samples: Iterator[RawSample]) -> Callable[[str], bytes | None]:
    """A function that goes on to the sample of a key, and gives its image; None behind the end."""

    def image(key: str) -> bytes | None:
        return next((sample.image for sample in samples if sample.key == key), None)

    return image


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if (rows.fieldnames or [])[:4] != REJECT_COLUMNS[:4]:
            raise GranvitError(
                f"{path}: is no list of rejects; delete it and make it again with `snakemake {path}`"
            )
        yield from rows


def chosen_keys(keys: Iterable[str], limit: int) -> tuple[Callable[[str], bool], int, int]:
    """Whether a key is among the ``limit`` that are looked at (those of the smallest hash, so that every run
    takes the same and no order of the files decides), how many there are, and how many are looked at."""
    total = 0

    def hashed() -> Iterator[int]:
        nonlocal total
        for key in keys:
            total += 1
            yield hash_key(key, _PURPOSE)

    smallest = heapq.nsmallest(limit, hashed())
    if total <= limit:
        return lambda key: True, total, total
    last = smallest[-1]
    return lambda key: hash_key(key, _PURPOSE) <= last, total, limit
