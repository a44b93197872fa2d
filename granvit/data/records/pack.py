"""Pack: filtered records and their images become a shard with a Parquet index beside it (step 4 of the data
flow).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from granvit.data.records.records import Record, read_records, readable_key
from granvit.data.records.shards import RawSample, ShardWriter, read_raw_shard
from granvit.errors import GranvitError
from granvit.files import remove_leftovers, replacing

REGION = pa.struct([("box", pa.list_(pa.float64())), ("text", pa.string()), ("score", pa.float64())])
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("data_type", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("image_sha256", pa.string()),
        ("phash", pa.string()),
        ("caption", pa.string()),
        ("regions", pa.list_(REGION)),
        ("conversations", pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))),
    ]
)
# The smallest column of the index that tells how many regions a row has, for readers that only count them
REGION_COUNTS = "regions.list.element.score"
_ROWS_AT_ONCE = 1000


def pack_shard(
    in_tar: str | Path, in_jsonl: str | Path, out_tar: str | Path, out_parquet: str | Path
) -> None:
    """Write the images of the records in ``in_jsonl`` with their final JSON, and the index: one row an image.

    ``offset, size`` are the image's byte range in ``out_tar``; ``image_sha256`` is the hash of its bytes. A
    record whose image is not in ``in_tar`` is an error.
    """
    remove_leftovers(out_tar, out_parquet)
    with (
        replacing(out_tar) as tar,
        replacing(out_parquet) as parquet,
        pq.ParquetWriter(parquet, INDEX_SCHEMA) as index,
        ShardWriter(tar) as shard,
    ):
        rows = []
        for record, sample in _matched(Path(in_tar), Path(in_jsonl)):
            rows.append(_index_row(record, sample.image, *shard.write_raw(sample)))
            if len(rows) == _ROWS_AT_ONCE:
                index.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA))
                rows = []
        index.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA))


def _matched(in_tar: Path, in_jsonl: Path) -> Iterator[tuple[Record, RawSample]]:
    """Filtered records, and their images with the records' own lines as JSON. Both files are in the order of
    ingest, so one pass over each is enough.
    """
    samples = read_raw_shard(in_tar)
    with open(in_jsonl, "rb") as lines:
        for record, line in zip(read_records(in_jsonl), lines, strict=True):
            for sample in samples:
                if sample.key == record.key:
                    yield record, replace(sample, json=line.removesuffix(b"\n"))
                    break
            else:
                raise GranvitError(
                    f"{in_jsonl}: record {readable_key(record.key)!r} has no image in {in_tar}, or not in "
                    "this order; delete the file and make it again"
                )


def _index_row(record: Record, image: bytes, offset: int, size: int) -> dict:
    # Not dataclasses.asdict, which copies every value: it would take longer than all else here.
    return vars(record) | {
        "regions": [vars(region) for region in record.regions],
        "conversations": [vars(turn) for turn in record.conversations],
        "offset": offset,
        "size": size,
        "image_sha256": record.image_sha256 or hashlib.sha256(image).hexdigest(),
    }
