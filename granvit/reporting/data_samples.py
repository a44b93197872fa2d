"""Which images the data figures show: chosen by a hash of their keys among those that show something, and
read without loading a shard.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from granvit.boxes import area
from granvit.config.data import FilterRules
from granvit.data.records.filters import in_order
from granvit.data.records.pack import REGION_COUNTS
from granvit.data.records.records import Record, Region, hash_key, readable_key
from granvit.data.records.shards import read_image_bytes, shard_records
from granvit.errors import GranvitError

_COLUMNS = ["key", "source", "data_type", "width", "height", "offset", "size", "caption", "regions"]
# How many boxes show something and can still be told apart in a small picture
_CLEAR = {"natural": range(2, 9), "ocr": range(4, 41)}


@dataclass(frozen=True)
class Shown:
    """An image of a packed shard, as stored, and its record; where that is one before the filters,
    ``dropped_by[i]`` is the rule that drops box ``i``.
    """

    record: Record
    image: bytes
    dropped_by: Sequence[str | None] = ()


def first_with_images(indexes: Iterable[str | Path]) -> Path:
    """The first of a source's shards that holds an image, or the first of all: hashing may leave a shard of a
    small source empty, and filters more than one. Raises GranvitError for an index that is missing or broken.
    """
    paths = [Path(index) for index in indexes]
    return next((path for path in paths if _open(path).metadata.num_rows), paths[0])


def choose_samples(index: str | Path, number: int) -> list[Shown]:
    """At most ``number`` images of a packed shard: those with a clear number of boxes first, then by hash.

    Keys and box counts are streamed; only the chosen rows are read whole. Raises GranvitError for an index
    that is missing or broken.
    """
    with _open(index) as file:
        chosen = heapq.nsmallest(number, _ranked(file))
        return [_read(file, index, group, row) for _, _, group, row in chosen]


def _ranked(file: pq.ParquetFile) -> Iterator[tuple[int, int, int, int]]:
    """(rank, hash, row group, row in it) of every image; smaller is better."""
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["key", "data_type", REGION_COUNTS])
        lengths = pc.list_value_length(table.column("regions")).to_pylist()
        keys, kinds = table.column("key").to_pylist(), table.column("data_type").to_pylist()
        for row, (key, kind, boxes) in enumerate(zip(keys, kinds, lengths, strict=True)):
            rank = 0 if boxes in _CLEAR.get(kind, ()) else 1 if boxes else 2
            yield rank, hash_key(key, "figure"), group, row


def _read(file: pq.ParquetFile, index: str | Path, group: int, row: int) -> Shown:
    values = file.read_row_group(group, columns=_COLUMNS).slice(row, 1).to_pylist()[0]
    image = read_image_bytes(Path(index).with_suffix(".tar"), values.pop("offset"), values.pop("size"))
    values["regions"] = [Region(**region) for region in values["regions"]]
    return Shown(Record(**values), image)


def _open(index: str | Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(index)
    except FileNotFoundError as error:
        raise GranvitError(f"{index}: no such index; make it with `snakemake {index}`") from error
    except pa.ArrowInvalid as error:
        raise GranvitError(
            f"{index}: not the index of a packed shard ({error}); delete it and make it again"
        ) from error


def choose_annotation(annotated: str | Path, index: str | Path, rules: FilterRules) -> Shown:
    """An image of a shard that passes the filters: with a caption, two to six boxes that stay and, if there
    is one, a box that does not; among equals by hash.

    ``annotated``: the shard's records before the filters, as JSON lines or, where no model annotates the
    source, as its ingested tar; ``index``: that of the packed shard. Raises GranvitError where no image
    passes.
    """
    found = ((record, explain(record, rules)) for record in shard_records(annotated))
    passing = ((record, dropped_by) for record, dropped_by in found if dropped_by is not None)
    best = min(passing, key=lambda pair: _annotation_rank(*pair), default=None)
    if best is None:
        raise GranvitError(
            f"{annotated}: no image of this shard passes the filters, so there is none to draw; add images "
            "to the source or loosen data.filters in config/config.yaml"
        )
    record, dropped_by = best
    return Shown(record, _image_of(record.key, index), dropped_by)


def _annotation_rank(record: Record, dropped_by: Sequence[str | None]) -> tuple:
    """Smaller is better."""
    kept = dropped_by.count(None)
    dropped = len(dropped_by) - kept
    shows_little = (record.caption is None, not 2 <= kept <= 6, not 1 <= dropped <= 4, kept == 0)
    return (*shows_little, hash_key(record.key, "figure"))


def explain(record: Record, rules: FilterRules) -> list[str | None] | None:
    """The first rule that drops each box, None for a box that stays; None for an image that is dropped."""
    dropped_by: list[str | None] = [None] * len(record.regions)
    current = record
    for rule in in_order(rules):
        current = rule.apply(current)
        if current is None:
            return None
        kept = set(map(id, current.regions))
        for at, region in enumerate(record.regions):
            if dropped_by[at] is None and id(region) not in kept:
                dropped_by[at] = rule.name
    return dropped_by


def _image_of(key: str, index: str | Path) -> bytes:
    with _open(index) as file:
        places = file.read(columns=["key", "offset", "size"])
    at = pc.index(places.column("key"), key).as_py()
    if at < 0:
        raise GranvitError(
            f"{index}: {readable_key(key)!r} passes the filters but is not packed: the shard was made with "
            f"other settings; make it again with `snakemake {index}`"
        )
    offset, size = (places.column(name)[at].as_py() for name in ("offset", "size"))
    return read_image_bytes(Path(index).with_suffix(".tar"), offset, size)


def listed_regions(regions: Sequence[Region], data_type: str, number: int) -> list[int]:
    """Positions of the regions whose text is printed: lines all over a page, the first and the last among
    them, or a photo's largest objects.
    """
    count = len(regions)
    if count <= number:
        return list(range(count))
    if data_type == "ocr":
        return [round(at * (count - 1) / (number - 1)) for at in range(number)] if number > 1 else [0]
    return sorted(sorted(range(count), key=lambda at: (-area(regions[at].box), at))[:number])
