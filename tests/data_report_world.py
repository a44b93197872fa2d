"""Small packed shards for the tests of data tables and figures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageDraw

from granvit.data.records.pack import pack_shard
from granvit.data.records.records import Record, Region, make_key, write_records
from granvit.data.records.shards import Sample, ShardWriter


def picture(size=(600, 500), box=None, orientation: int = 1, colour="white") -> bytes:
    """A flat JPEG of ``size`` as stored, with a red rectangle at ``box`` of the image as stored."""
    image = Image.new("RGB", size, colour)
    if box:
        ImageDraw.Draw(image).rectangle(box, fill="red")
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


def natural_record(source: str, number: int, boxes: int = 3, caption: str | None = "a view") -> Record:
    regions = [Region([10 + 60.0 * i, 20, 170 + 60.0 * i, 200 + 20 * i], f"thing {i}") for i in range(boxes)]
    return Record(make_key(source, str(number)), source, "natural", 600, 500, caption, regions)


def page_record(source: str, number: int, lines: int = 20) -> Record:
    """A dense page: its lines fill the image from top to bottom in two columns."""
    step = 480 / max(1, -(-lines // 2))
    regions = []
    for i in range(lines):
        left, top = 20 + 290.0 * (i % 2), 10 + step * (i // 2)
        regions.append(Region([left, top, left + 260, top + step - 2], f"line {i}"))
    return Record(make_key(source, str(number)), source, "ocr", 600, 500, None, regions)


def pack(
    root: Path, source: str, records: list[Record], shard: int = 0, image: bytes | None = None,
    annotated: list[Record] | None = None,
) -> Path:  # fmt: skip
    """Write ``records`` as a packed shard, and ``annotated`` as they were before the filters; the index."""
    steps = {name: root / name / source for name in ("ingested", "annotated", "filtered", "packed")}
    for folder in steps.values():
        folder.mkdir(parents=True, exist_ok=True)
    name = f"{shard:05d}"
    with ShardWriter(steps["ingested"] / f"{name}.tar") as writer:
        for record in annotated or records:
            colour = tuple(200 + byte % 50 for byte in hashlib.sha256(record.key.encode()).digest()[:3])
            writer.write(Sample(record, image or picture(colour=colour), "jpg"))
    write_records(steps["annotated"] / f"{name}.jsonl", annotated or records)
    write_records(steps["filtered"] / f"{name}.jsonl", records)
    index = steps["packed"] / f"{name}.parquet"
    pack_shard(
        steps["ingested"] / f"{name}.tar",
        steps["filtered"] / f"{name}.jsonl",
        index.with_suffix(".tar"),
        index,
    )
    return index
