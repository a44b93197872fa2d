"""The file of a mixture: its columns, and its rows in the order of their keys' hashes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from granvit.data.records.records import hash_key
from granvit.files import remove_leftovers, replacing

QA = pa.struct(
    [
        ("task", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("box", pa.list_(pa.float64())),
    ]
)
MIXTURE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image_sha256", pa.string()),
        ("qa", pa.list_(QA)),
    ]
)
_BUCKETS = 64
_ROWS_A_CHUNK = 5000  # to be put into buckets


def write_sorted(rows: Iterable[dict], out_parquet: str | Path) -> None:
    """Write rows of ``MIXTURE_SCHEMA`` (more keys are ignored) sorted by ``hash_key`` of their key.

    Rows go to buckets by their hash's leading bits first, and each bucket is sorted by itself: 29.5 million
    images and their questions do not fit into memory.
    """
    remove_leftovers(out_parquet)
    with (
        replacing(out_parquet) as temporary,
        TemporaryDirectory(
            prefix=f".{Path(out_parquet).name}.", suffix=".buckets.tmp", dir=temporary.parent
        ) as folder,
    ):
        paths = _write_buckets(rows, Path(folder))
        with pq.ParquetWriter(temporary, MIXTURE_SCHEMA) as writer:
            for path in paths:
                with pa.ipc.open_stream(path) as stream:
                    table = stream.read_all().combine_chunks()
                hashes = pa.array([hash_key(key) for key in table.column("key").to_pylist()], pa.uint64())
                order = pc.sort_indices(hashes)
                writer.write_table(table.take(order))


def _write_buckets(rows: Iterable[dict], folder: Path) -> list[Path]:
    # Arrow streams, not Parquet: thousands of small batches leave no footer that grows in memory.
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    paths = [folder / f"{bucket:02d}.arrows" for bucket in range(_BUCKETS)]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(path, MIXTURE_SCHEMA, options=options)) for path in paths
        ]
        rows = iter(rows)
        while chunk := list(islice(rows, _ROWS_A_CHUNK)):
            buckets: list[list[dict]] = [[] for _ in writers]
            for row in chunk:
                buckets[hash_key(row["key"]) * _BUCKETS >> 64].append(row)
            for writer, bucket in zip(writers, buckets, strict=True):
                if bucket:
                    writer.write_table(pa.Table.from_pylist(bucket, MIXTURE_SCHEMA))
    return paths
