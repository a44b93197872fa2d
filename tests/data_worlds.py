"""Small raw sources for the data tests."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from PIL import Image

from granvit.data.annotate import annotate_given
from granvit.data.filters import FilterRules, filter_shard
from granvit.data.ingest import ingest_shard
from granvit.data.pack import pack_shard
from granvit.data.sources import SourceSpec

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"


def image_bytes(seed: str, size=(600, 500), form="JPEG", orientation: int | None = None) -> bytes:
    """A flat image in a colour of its own."""
    colour = tuple(hashlib.sha256(seed.encode()).digest()[:3])
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size, colour).save(buffer, form, exif=exif)
    return buffer.getvalue()


def spec(root: Path, **changes) -> SourceSpec:
    fields = {
        "name": "World",
        "data_type": "natural",
        "group": "UMG-41M",
        "use": "pretrain",
        "adapter": "coco",
        "path": str(root),
        "annotator": "given",
        "shards": 1,
    }
    return SourceSpec(**(fields | changes))


def write_coco(root: Path, images: int = 12, boxes: int = 3, tag: str = "") -> Path:
    """A COCO source whose images all pass the filters and hold ``boxes`` captioned regions each."""
    (root / "images").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for i in range(images):
        (root / "images" / f"{i}.jpg").write_bytes(image_bytes(f"{tag}{i}"))
        content["images"].append(
            {
                "id": i,
                "file_name": f"{i}.jpg",
                "width": 600,
                "height": 500,
                "caption": f"view {tag}{i}",
            }
        )
        for j in range(boxes):
            content["annotations"].append(
                {
                    "image_id": i,
                    "category_id": 1,
                    "bbox": [10 + 100 * j, 20, 150, 160],
                    "caption": f"thing {j} of {i}",
                }
            )
    (root / "instances.json").write_text(json.dumps(content))
    return root


def write_llava(root: Path, images: int = 6) -> Path:
    (root / "images").mkdir(parents=True)
    entries = []
    for i in range(images):
        (root / "images" / f"{i}.png").write_bytes(image_bytes(f"llava{i}", form="PNG"))
        entries.append(
            {
                "id": f"q{i}",
                "image": f"{i}.png",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat is it?"},
                    {"from": "gpt", "value": f"Answer {i}"},
                    {"from": "human", "value": "Sure?"},
                    {"from": "gpt", "value": "Yes"},
                ],
            }
        )
    (root / "conversations.json").write_text(json.dumps(entries))
    return root


def prepare(source: SourceSpec, out: Path, rules: FilterRules | None = None) -> list[Path]:
    """Ingest, annotate (as given), filter and pack every shard; return the indexes."""
    indexes = []
    for shard, name in enumerate(source.shard_names()):
        step = {s: out / s / source.name / name for s in ("ingested", "annotated", "filtered", "packed")}
        tar = step["ingested"].with_suffix(".tar")
        ingest_shard(source, shard, tar, step["ingested"].with_suffix(".rejects.csv"))
        annotate_given(tar, step["annotated"].with_suffix(".jsonl"))
        filter_shard(
            step["annotated"].with_suffix(".jsonl"),
            step["filtered"].with_suffix(".jsonl"),
            step["filtered"].with_suffix(".counts.csv"),
            rules or FilterRules(),
        )
        packed = step["packed"].with_suffix(".parquet")
        pack_shard(tar, step["filtered"].with_suffix(".jsonl"), packed.with_suffix(".tar"), packed)
        indexes.append(packed)
    return indexes
