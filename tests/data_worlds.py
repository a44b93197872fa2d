"""Small raw sources for the data tests, and what several of them read or need."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from granvit.config.data import FilterRules
from granvit.data.annotators.annotate import annotate_shard
from granvit.data.records.filters import filter_shard
from granvit.data.records.pack import pack_shard
from granvit.data.records.shards import read_shard
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.catalogue import catalogue_source
from granvit.data.sources.ingest import ingest_shard
from granvit.data.sources.items import RawItem
from granvit.data.sources.table import SourceSpec

MAX_PIXELS = 100_000_000
REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "real"
SOURCE_COLUMNS = (
    "name", "data_type", "group", "use", "adapter", "path", "boxes", "captions", "text", "shards", "options",
)  # fmt: skip
needs_ocr = pytest.mark.skipif(
    not (importlib.util.find_spec("paddleocr") and importlib.util.find_spec("rapidocr")),
    reason="paddleocr or the rapidocr model carrier is not installed",
)


def read_csv(path: str | Path, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table, by the names in its first line."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def write_file(path: Path, content: object) -> Path:
    """Write text as it is, and anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def image_bytes(seed: str, size=(600, 500), form="JPEG", orientation: int | None = None) -> bytes:
    """A flat image in a colour of its own."""
    colour = tuple(hashlib.sha256(seed.encode()).digest()[:3])
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    return encode(Image.new("RGB", size, colour), form, exif=exif)


def blocks_picture(seed: int, size=(640, 480)) -> Image.Image:
    """Random coarse blocks, smoothed: features at every coarse frequency."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


FOUND = {"boxes": "detector", "text": "captioner", "captions": "none"}  # of a source that brings images alone


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
    write_file(root / "instances.json", content)
    return root


def edit_coco(root: Path, change: Callable[[dict], object]) -> None:
    """Let ``change`` alter the annotations of a COCO source in place."""
    content = json.loads((root / "instances.json").read_text())
    change(content)
    write_file(root / "instances.json", content)


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
    write_file(root / "conversations.json", entries)
    return root


def add_member(tar: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    """Add a member to a tar; ``fields`` of its header, such as type and linkname."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data))


def read_source(adapter: str, root: Path | str, **settings: str) -> list[RawItem]:
    """All that an adapter reads in a source's folder."""
    return list(ADAPTERS[adapter].read(root, settings))


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
        **({"max_pixels": MAX_PIXELS, "max_reject_share": max_reject_share, "max_cut_share": 1.0} | limits),
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


LABELLED_SIZE = (600, 500)
LABELLED_HALF = [150.0, 125.0, 450.0, 375.0]  # the middle of such an image, half as wide and high


def write_labelled(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(name, LABELLED_SIZE))
    return root


def ingest_labelled(root: Path, adapter: str, options: str = "", **limits):
    """Regions by image, and what was left out by image's path and cause."""
    captions = limits.pop("captions", "none")
    source = spec(root, adapter=adapter, options=options, captions=captions)
    tar = ingest(source, root.parent / "out", **limits)
    regions = {
        sample.record.provenance["file"]: [(region.box, region.text) for region in sample.record.regions]
        for sample in read_shard(tar)
    }
    rejects = read_csv(tar.with_suffix(".rejects.csv"))
    return regions, sorted((row["path"], row["cause"], row["regions"]) for row in rejects)
