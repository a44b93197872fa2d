"""Contamination: training images that are near-duplicates of a benchmark's images.

Two images match where their bytes are equal, or where their perceptual hashes differ in at most
``max_distance`` of 64 bits and their detail hashes in at most twice that share of 256. The second look is
needed because documents of one template share the coarse hash; it decodes the training images of the
candidates only. Featureless images (granvit.data.records.fingerprints) match by equal bytes alone.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from granvit.data.records.fingerprints import FEATURELESS, detail_hash, perceptual_hash
from granvit.data.records.images import decode_rgb
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError
from granvit.files import remove_leftovers, replacing, write_csv
from granvit.progress import Progress

# ``index``: the first question that shows the image
HASHES_COLUMNS = ["benchmark", "index", "image_sha256", "phash", "detail"]
HASHES_SCHEMA = pa.schema([(name, pa.string()) for name in HASHES_COLUMNS])
MATCHES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("benchmark", pa.string()),
        ("index", pa.string()),
        ("distance", pa.int16()),  # of 64 bits
        ("detail_distance", pa.int16()),  # of 256 bits
    ]
)
REPORT_COLUMNS = ["source", "benchmark", "images", "benchmark_images", "share"]
ALL = "all"
_REPORTED = ["source", "benchmark", "key", "image_sha256"]
# A slight crop moves fine frequencies twice as much as coarse ones (measured on photographs and receipts).
DETAIL_BITS_A_BIT = 2 * 256 // 64
_ROWS_AT_ONCE = 1000
_HASH_BITS = 64
_PAIRS_AT_ONCE = 4_000_000


def hash_benchmarks(
    images: Iterable[tuple[str, str, bytes]], out_parquet: str | Path, log: str | Path | None = None
) -> None:
    """Write the hashes of ``(benchmark, index, file bytes)``; an image that a benchmark shows twice is
    written once. An image that cannot be decoded is an error.
    """
    remove_leftovers(out_parquet)
    progress = Progress(0, "benchmark images", "images", log)
    seen: set[tuple[str, str]] = set()
    rows: list[dict[str, str]] = []
    with replacing(out_parquet) as temporary, pq.ParquetWriter(temporary, HASHES_SCHEMA) as writer:
        for benchmark, index, data in images:
            digest = hashlib.sha256(data).hexdigest()
            if (benchmark, digest) in seen:
                continue
            seen.add((benchmark, digest))
            try:
                image = decode_rgb(data)
            except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError and more
                raise GranvitError(
                    f"{benchmark}, question {index}: its image cannot be read ({error}); fetch the "
                    "benchmark's file again"
                ) from error
            names = {"benchmark": benchmark, "index": index, "image_sha256": digest}
            rows.append(names | {"phash": perceptual_hash(image), "detail": detail_hash(image)})
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, HASHES_SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, HASHES_SCHEMA))
    progress.say(f"benchmark images: {len(seen)} hashed")


def find_contamination(
    indexes: Sequence[str | Path],
    benchmark_hashes: str | Path,
    out_matches: str | Path,
    out_report: str | Path,
    max_distance: int,
    log: str | Path | None = None,
) -> None:
    """Hold every packed shard (its index; its tar beside it) against the benchmarks' images.

    Writes the matches (``MATCHES_SCHEMA``) and the report: for each source and benchmark, and for all of
    them, how many of the source's images match, how many of the benchmark's images these match, and which
    share of the benchmark's images that is. A pair without a match has its row of zeros.
    """
    remove_leftovers(out_matches, out_report)
    known = Known.read(benchmark_hashes)
    looked_at: dict[str, None] = {}  # sources, in the order met
    found: list[tuple[str, str, str, str]] = []
    progress = Progress(len(indexes), "contamination", "shards", log)
    with replacing(out_matches) as temporary, pq.ParquetWriter(temporary, MATCHES_SCHEMA) as writer:
        for number, index in enumerate(indexes, 1):
            sources = pq.read_table(index, columns=["source"])["source"].unique().to_pylist()
            sources = sources or [Path(index).parent.name]  # an empty shard was looked at, too
            looked_at |= dict.fromkeys(sources)
            rows = match_shard(index, known, max_distance)
            found += [tuple(row[name] for name in _REPORTED) for row in rows]
            writer.write_table(pa.Table.from_pylist(rows, MATCHES_SCHEMA))
            progress.update(number, matches=float(len(found)))
    write_csv(out_report, REPORT_COLUMNS, _report(pd.DataFrame(found, columns=_REPORTED), looked_at, known))


@dataclass(frozen=True)
class Known:
    """The benchmarks' images: their rows, and ``hashes`` (uint64) of ``positions``, those with features."""

    rows: list[dict[str, str]]
    hashes: np.ndarray
    positions: np.ndarray
    by_bytes: dict[str, list[int]]

    @classmethod
    def read(cls, benchmark_hashes: str | Path) -> Known:
        rows = pq.read_table(benchmark_hashes, schema=HASHES_SCHEMA).to_pylist()
        positions = [at for at, row in enumerate(rows) if row["phash"] != FEATURELESS]
        by_bytes = defaultdict(list)
        for at, row in enumerate(rows):
            by_bytes[row["image_sha256"]].append(at)
        hashes = np.array([int(rows[at]["phash"], 16) for at in positions], np.uint64)
        return cls(rows, hashes, np.array(positions, np.int64), dict(by_bytes))


def match_shard(index: str | Path, known: Known, max_distance: int) -> list[dict]:
    """The matches of one shard, rows of ``known`` with key, source and the distances; in the order of the
    shard and of the benchmarks.
    """
    columns = ["key", "source", "image_sha256", "phash", "offset", "size"]
    table = pq.read_table(index, columns=columns)
    if table["phash"].null_count:
        raise GranvitError(f"{index}: images without a perceptual hash; delete the shard and pack it again")
    found = {
        (row, at): (0, 0)
        for row, digest in enumerate(table["image_sha256"].to_pylist())
        for at in known.by_bytes.get(digest, ())
    }
    tar, details = Path(index).with_suffix(".tar"), {}
    for row, at, distance in _candidates(table["phash"].to_pylist(), known, max_distance):
        if (row, at) in found:
            continue
        if row not in details:
            details = {row: _detail(tar, *(table[name][row].as_py() for name in ("offset", "size")))}
        detail_distance = (details[row] ^ int(known.rows[at]["detail"], 16)).bit_count()
        if detail_distance <= DETAIL_BITS_A_BIT * max_distance:
            found[row, at] = (distance, detail_distance)
    matches = []
    for (row, at), (distance, detail_distance) in sorted(found.items()):
        named = {name: table[name][row].as_py() for name in ("key", "source")}
        named |= {"distance": distance, "detail_distance": detail_distance}
        matches.append(known.rows[at] | named)
    return matches


def _candidates(hashes: list[str], known: Known, max_distance: int) -> Iterator[tuple[int, int, int]]:
    """Positions in the shard and in ``known.rows`` whose perceptual hashes are near, and how near."""
    own = np.array([int(value, 16) for value in hashes], np.uint64)
    rows = np.flatnonzero(own != np.uint64(int(FEATURELESS, 16)))
    pairs = near_pairs(own[rows], known.hashes, max_distance)
    for row, at, distance in zip(*(values.tolist() for values in pairs), strict=True):
        yield int(rows[row]), int(known.positions[at]), distance


def near_pairs(a: np.ndarray, b: np.ndarray, max_distance: int) -> tuple[np.ndarray, ...]:
    """Every ``(i, j, distance)`` with at most ``max_distance`` different bits in ``a[i]`` and ``b[j]``.

    ``a, b``: uint64. Three arrays, sorted by i, then j. Not all are compared with all (multi-index hashing),
    and yet it is exact: hashes cut into ``max_distance + 1`` chunks
    that differ in so few bits agree in at least one chunk, so only pairs that share a chunk are compared.
    """
    bounds = [_HASH_BITS * chunk // (max_distance + 1) for chunk in range(max_distance + 2)]
    found = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        mask = np.uint64((1 << (high - low)) - 1)
        a_chunk, b_chunk = ((values >> np.uint64(low)) & mask for values in (a, b))
        order = np.argsort(b_chunk, kind="stable")
        first = np.searchsorted(b_chunk[order], a_chunk, "left")
        counts = np.searchsorted(b_chunk[order], a_chunk, "right") - first
        for start, stop in _blocks(counts):
            i = np.repeat(np.arange(start, stop), counts[start:stop])
            steps = np.arange(len(i)) - np.repeat(
                np.cumsum(counts[start:stop]) - counts[start:stop], counts[start:stop]
            )
            j = order[first[i] + steps]
            distance = np.bitwise_count(a[i] ^ b[j])
            near = distance <= max_distance
            found.append(i[near] * len(b) + j[near])
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    i, j = np.divmod(pairs, max(len(b), 1))
    return i, j, np.bitwise_count(a[i] ^ b[j])


def _blocks(counts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of ``counts`` whose sum is at most ``_PAIRS_AT_ONCE`` (one item may pass it), without those
    that hold nothing.
    """
    ends = np.cumsum(counts)
    blocks, start = [], 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, "right")), start + 1)
        if ends[stop - 1] > done:
            blocks.append((start, stop))
        start = stop
    return blocks


def _detail(tar: Path, offset: int, size: int) -> int:
    return int(detail_hash(decode_rgb(read_image_bytes(tar, offset, size))), 16)


def _report(found: pd.DataFrame, sources: Iterable[str], known: Known) -> Iterator[list[object]]:
    """Rows of ``REPORT_COLUMNS``: the different images on both sides of the matches."""
    everything = pd.DataFrame(known.rows, columns=HASHES_COLUMNS)
    totals = _and_all(everything, "benchmark").groupby("benchmark", sort=False)["image_sha256"].nunique()
    counts = _and_all(_and_all(found, "source"), "benchmark").groupby(["source", "benchmark"]).nunique()
    benchmarks = [*everything["benchmark"].unique(), ALL]
    pairs = pd.MultiIndex.from_product([[*sources, ALL], benchmarks])
    for (source, benchmark), images, pictures in counts.reindex(pairs, fill_value=0).itertuples():
        share = pictures / totals[benchmark] if len(totals) else 0
        yield [source, benchmark, images, pictures, f"{share:.4f}"]


def _and_all(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows, and all of them once more under the name ``ALL``."""
    return pd.concat([rows, rows.assign(**{column: ALL})])
