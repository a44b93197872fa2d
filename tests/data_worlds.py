"""Small raw sources for the data tests."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from PIL import Image

from granvit.data.annotate import annotate_shard
from granvit.data.catalogue import catalogue_source
from granvit.data.filters import FilterRules, filter_shard
from granvit.data.ingest import ingest_shard
from granvit.data.pack import pack_shard
from granvit.data.sources import SourceSpec

MAX_PIXELS = 100_000_000
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
        "boxes": "given",
        "captions": "given",
        "text": "given",
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


def ingest(source: SourceSpec, out: Path, shard: int = 0, max_reject_share: float = 1.0, **limits) -> Path:
    """Catalogue a source, if that was not done, and ingest a shard; the shard's tar, whose lists of rejects
    and counts lie beside it."""
    catalogue = out / "catalogued" / f"{source.name}.sqlite"
    if not catalogue.exists():
        catalogue_source(source, catalogue)
    tar = out / "ingested" / source.name / f"{source.shard_names()[shard]}.tar"
    ingest_shard(
        source,
        shard,
        catalogue,
        tar,
        tar.with_suffix(".rejects.csv"),
        tar.with_suffix(".counts.csv"),
        **({"max_pixels": MAX_PIXELS, "max_reject_share": max_reject_share} | limits),
    )
    return tar


def prepare(source: SourceSpec, out: Path, rules: FilterRules | None = None) -> list[Path]:
    """Catalogue, ingest, annotate (as given), filter and pack every shard; return the indexes."""
    indexes = []
    for shard, name in enumerate(source.shard_names()):
        tar = ingest(source, out, shard)
        annotated, filtered, packed = (
            out / step / source.name / name for step in ("annotated", "filtered", "packed")
        )
        annotate_shard(
            tar,
            annotated.with_suffix(".jsonl"),
            annotated.with_suffix(".rejects.csv"),
            annotated.with_suffix(".counts.csv"),
            [],
        )
        filter_shard(
            annotated.with_suffix(".jsonl"),
            filtered.with_suffix(".jsonl"),
            filtered.with_suffix(".counts.csv"),
            rules or FilterRules(),
        )
        index = packed.with_suffix(".parquet")
        pack_shard(tar, filtered.with_suffix(".jsonl"), packed.with_suffix(".tar"), index)
        indexes.append(index)
    return indexes
