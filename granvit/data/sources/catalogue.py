"""The catalogue of a source: every image with its key, its shard and what the source says about it.

One pass over the source's annotation files makes it, so that a source of millions of images is read once and
not once a shard. It is an SQLite file: sorting and joining happen on disk, in memory that does not grow.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

from granvit.data.records.records import Conversation, Region, Reject, hash_key, make_key
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.downloads import download_urls
from granvit.data.sources.items import Place, RawItem, is_unicode
from granvit.data.sources.table import SourceSpec, absent_source
from granvit.errors import GranvitError
from granvit.files import replacing
from granvit.progress import Progress

_CACHE = "cache_size = -32768"  # kilobytes that SQLite may keep, and sort at a time
# Made once: there are as many items as annotations. ASCII: what is broken in a text stays as it came until it
# is judged.
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=vars)
_SAY_EVERY = 10.0  # seconds
_PIECES = "CREATE TABLE pieces (key TEXT, number INTEGER, item TEXT)"
_ITEMS = (
    "CREATE TABLE items "
    "(shard INTEGER, container TEXT, key TEXT, number INTEGER, duplicate INTEGER, item TEXT)"
)


def catalogue_source(source: SourceSpec, out_sqlite: str | Path, log: str | Path | None = None) -> None:
    """Read ``source`` once and write where each of its images lies and which shard takes it.

    A loose image goes to shard ``hash_key(key) % source.shards``; images inside tars and Parquet files go by
    their file, the sorted files dealt round-robin, so that a shard's job reads its files once.

    Raises GranvitError for a source that is absent or empty, naming row, path and the command that fetches
    it.
    """
    if not source.is_remote and not Path(source.path).exists():
        raise absent_source(source)
    if source.adapter == "urls":
        download_urls(source.path, source.settings, log)
    for leftover in Path(out_sqlite).parent.glob(f".{Path(out_sqlite).name}.*"):
        leftover.unlink()  # of a killed job; read by nothing, but as large as the source's annotations
    say = _Counter(f"catalogue {source.name}", log)
    with replacing(out_sqlite) as temporary:
        staging = temporary.with_name(temporary.name + ".pieces")
        try:
            with _sorting_in(temporary.parent):
                _write_pieces(source, staging, say)
                _write_items(source, staging, temporary, say)
        finally:
            staging.unlink(missing_ok=True)
        if not say.items:
            raise GranvitError(
                f"source {source.name!r}: no images found in {source.path} with adapter {source.adapter!r}; "
                "put them where the adapter looks (images/ for folders), or correct the row's `path`, "
                "`adapter` or `options` (layouts: docs/data.md)"
            )
        if source.boxes == "given" and source.data_type != "instruction" and not say.regions:
            raise GranvitError(
                f"source {source.name!r}: boxes is 'given', but adapter {source.adapter!r} found no box in "
                f"{source.path}; correct the row's `options`, which name the fields, or its `boxes` "
                "(layouts: docs/data.md)"
            )
        if source.captions == "given" and not say.captions:
            raise GranvitError(
                f"source {source.name!r}: captions is 'given', but adapter {source.adapter!r} found no "
                f"caption in {source.path}; correct the row's `options`, which name the field, lay texts "
                "under their images' names (a.jpg, a.txt), or set `captions` to none or captioner"
            )


def read_catalogue(sqlite: str | Path, shard: int) -> Iterator[tuple[str, RawItem, bool]]:
    """``(key, item, whether the key came before)`` of one shard.

    Loose images come in the order of their keys, images inside a file in the order in which they lie there,
    so that the file is read once from start to end.
    """
    with closing(_open(sqlite)) as database:
        rows = database.execute(
            "SELECT key, item, duplicate FROM items WHERE shard = ? ORDER BY container, number", (shard,)
        )
        for key, item, duplicate in rows:
            yield key, _from_json(item), bool(duplicate)


def count_items(sqlite: str | Path, shard: int) -> int:
    """How many rows ``read_catalogue`` gives for a shard."""
    with closing(_open(sqlite)) as database:
        return database.execute("SELECT count(*) FROM items WHERE shard = ?", (shard,)).fetchone()[0]


def _write_pieces(source: SourceSpec, staging: Path, say: _Counter) -> None:
    staging.unlink(missing_ok=True)
    with closing(_create(staging, _PIECES)) as database:
        items = ADAPTERS[source.adapter].read(source.root, source.settings)
        rows = (_piece(source, number, item) for number, item in enumerate(say.counted(items, "read")))
        database.executemany("INSERT INTO pieces VALUES (?, ?, ?)", rows)
        database.commit()


def _piece(source: SourceSpec, number: int, item: RawItem) -> tuple[str, int, str]:
    place = item.place
    if not is_unicode(item.original_id) or (place and not is_unicode(place.file)):
        # Neither a key nor a file name of Unicode can be made of it; shown with its bytes escaped.
        item.original_id = _escaped(item.original_id)
        item.place = Place(_escaped(place.file) if place else "", problem="broken_name")
    return make_key(source.name, item.original_id), number, _to_json(item)


def _escaped(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _write_items(source: SourceSpec, staging: Path, out: Path, say: _Counter) -> None:
    out.unlink(missing_ok=True)
    with closing(_create(out, _ITEMS)) as database, closing(sqlite3.connect(staging)) as pieces:
        pieces.execute(f"PRAGMA {_CACHE}")
        rows = pieces.execute("SELECT key, number, item FROM pieces ORDER BY key, number")
        database.executemany(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", say.counted(_rows(source, rows, say), "joined")
        )
        _deal_containers(database, source.shards)
        database.execute("CREATE INDEX by_shard ON items (shard, container, number)")
        database.commit()


def _rows(source: SourceSpec, pieces: Iterator[tuple[str, int, str]], say: _Counter) -> Iterator[tuple]:
    position = 0
    for key, group in groupby(pieces, key=lambda piece: piece[0]):
        for duplicate, (number, item) in enumerate(_joined((n, _from_json(text)) for _, n, text in group)):
            if source.text == "given":
                _reject_textless(item)
            say.captions += bool(item.caption) or any(r.what == "caption" for r in item.rejects)
            say.regions += len(item.regions) + sum(reject.regions for reject in item.rejects)
            inside = item.place is not None and item.place.in_container
            yield (
                None if inside else hash_key(key) % source.shards,
                item.place.file if inside else "",
                key,
                number if inside else position,
                int(duplicate > 0),
                _to_json(item),
            )
            position += 1


def _joined(pieces: Iterator[tuple[int, RawItem]]) -> list[tuple[int, RawItem]]:
    """The items of one key, each with its number.

    Some pieces only add to an image (its captions in one file, its boxes in another). They go into the first
    item that is whole. Where none is, the first piece becomes the item. Where several whole items are about
    different images, nothing tells whose the pieces are: what they say is rejected (``duplicate_id``).
    """
    items: list[tuple[int, RawItem]] = []
    joining: list[tuple[int, RawItem]] = []
    for number, piece in pieces:
        (joining if piece.joins else items).append((number, piece))
    if joining and not items:
        items.append(joining.pop(0))
    first = items[0][1]
    # a.jpg and a.png are one picture
    ambiguous = len({os.path.splitext(item.place.file)[0] for _, item in items if item.place}) > 1
    for _, piece in joining:
        if ambiguous:
            first.rejects += _all_of(piece, "duplicate_id")
            continue
        first.place = first.place or piece.place
        first.stated_size = first.stated_size or piece.stated_size
        first.caption = first.caption or piece.caption
        first.regions += piece.regions
        first.conversations += piece.conversations
        first.rejects += piece.rejects
    return items


def _all_of(piece: RawItem, cause: str) -> list[Reject]:
    """All that a piece says about an image, as rejects."""
    lost = ["caption"] * (piece.caption is not None) + ["conversation"] * len(piece.conversations)
    regions = [Reject("region", cause, 1)] * len(piece.regions)
    return [*piece.rejects, *regions, *(Reject(what, cause) for what in lost)]


def _reject_textless(item: RawItem) -> None:
    """The source gives the regions' texts, so that a region without one is none."""
    kept = [region for region in item.regions if region.text]
    item.rejects += [Reject("region", "no_text", 1)] * (len(item.regions) - len(kept))
    item.regions = kept


def _deal_containers(database: sqlite3.Connection, shards: int) -> None:
    database.execute("CREATE TABLE containers (file TEXT PRIMARY KEY, shard INTEGER)")
    files = database.execute("SELECT DISTINCT container FROM items WHERE shard IS NULL ORDER BY container")
    dealt = ((file, number % shards) for number, (file,) in enumerate(files.fetchall()))
    database.executemany("INSERT INTO containers VALUES (?, ?)", dealt)
    database.execute(
        "UPDATE items SET shard = (SELECT shard FROM containers WHERE file = container) WHERE shard IS NULL"
    )


def _create(path: Path, table: str) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    # A killed job's file is thrown away and never read, so nothing is kept for rolling back.
    for setting in ("journal_mode = OFF", "synchronous = OFF", _CACHE):
        database.execute(f"PRAGMA {setting}")
    database.execute(table)
    return database


def _open(path: str | Path) -> sqlite3.Connection:
    if not Path(path).is_file():
        raise GranvitError(f"{path}: no such catalogue; make it with `snakemake {path}`")
    # Immutable: hundreds of jobs may read it on a network file system that knows no locks.
    return sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1", uri=True)


@contextmanager
def _sorting_in(folder: Path) -> Iterator[None]:
    """Let SQLite spill what it sorts beside the output: the usual temporary folder may be too small."""
    before = os.environ.get("SQLITE_TMPDIR")
    os.environ["SQLITE_TMPDIR"] = before or str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["SQLITE_TMPDIR"]


def _to_json(item: RawItem) -> str:
    """Without empty fields."""
    fields = {name: value for name, value in vars(item).items() if value}
    if item.place:
        fields["place"] = {name: value for name, value in vars(item.place).items() if value is not None}
    return _ENCODER.encode(fields)


def _from_json(text: str) -> RawItem:
    fields = {"original_id": "", "place": None} | json.loads(text)
    if fields["place"]:
        fields["place"] = Place(**fields["place"])
    if "stated_size" in fields:
        fields["stated_size"] = tuple(fields["stated_size"])
    for name, kind in (("regions", Region), ("conversations", Conversation), ("rejects", Reject)):
        fields[name] = [kind(**value) for value in fields.get(name, ())]
    return RawItem(**fields)


class _Counter:
    """Says now and then how far a pass of unknown length has come."""

    def __init__(self, label: str, log: str | Path | None):
        self.progress = Progress(0, label, log=log)
        self.items = self.regions = self.captions = 0

    def counted(self, items: Iterator, what: str) -> Iterator:
        began = said = time.monotonic()
        number = 0
        for number, item in enumerate(items, 1):
            yield item
            if number % 1000 == 0 and (now := time.monotonic()) - said > _SAY_EVERY:
                said = now
                self.progress.say(
                    f"{self.progress.label} | {what} {number:,} | {number / (now - began):,.0f}/s"
                )
        self.items = number
        self.progress.say(f"{self.progress.label} | {what} {number:,} in all")
