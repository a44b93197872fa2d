"""What the benchmarks of the data steps share: photographs, a source made of them, and its way to a shard."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from granvit.config.data import FilterRules
from granvit.data.annotators.annotate import Annotated, annotate_shard
from granvit.data.records.filters import filter_shard
from granvit.data.records.pack import pack_shard
from granvit.data.records.shards import Sample
from granvit.data.sources.catalogue import catalogue_source
from granvit.data.sources.ingest import ingest_shard
from granvit.data.sources.table import SourceSpec

SUFFIXES = {
    "ingest": (".tar", ".rejects.csv", ".counts.csv"),
    "annotate": (".jsonl", ".rejects.csv", ".counts.csv"),
    "filter": (".jsonl", ".counts.csv"),
    "pack": (".tar", ".parquet"),
}


def photographs(count: int, longest: tuple[int, int], quality: int) -> list[bytes]:
    """JPEGs cut from real photographs and enlarged, the longer side between ``longest`` pixels.

    A little noise stands for the detail that enlarging lacks, so that bytes a pixel are a camera's.
    """
    import skimage.data  # here, because the jobs whose memory is measured import this file too

    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
    pictures = [Image.fromarray(getattr(skimage.data, name)()) for name in names]
    return [_photograph(pictures[n % len(pictures)], n, longest, quality) for n in range(count)]


def _photograph(picture: Image.Image, number: int, longest: tuple[int, int], quality: int) -> bytes:
    rng = np.random.default_rng(number)
    side = int(rng.integers(longest[0], longest[1] + 1))
    size = (side, side * 3 // 4) if rng.random() < 0.7 else (side * 3 // 4, side)
    scale = min(picture.width / size[0], picture.height / size[1]) * rng.uniform(0.7, 1.0)
    width, height = size[0] * scale, size[1] * scale
    x, y = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    enlarged = picture.resize(size, Image.Resampling.BICUBIC, (x, y, x + width, y + height))
    pixels = np.asarray(enlarged) + rng.normal(0, 4, (size[1], size[0], 1))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_source(folder: Path, images: int, pictures: list[bytes], shards: int = 1) -> SourceSpec:
    """A COCO source of ``images`` images (the pictures over and over) of 6.2 regions on average, as in
    Gran-29M; every image passes the filters, about one region in eight does not.
    """
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for number in range(images):
        data, name = pictures[number % len(pictures)], f"{number:07d}.jpg"
        (folder / "images" / name).write_bytes(data)
        width, height = Image.open(io.BytesIO(data)).size
        content["images"].append(
            {
                "id": number, "file_name": name, "width": width, "height": height,
                "caption": "What can be seen in this picture, told in two sentences. " * 3,
            }
        )  # fmt: skip
        for region in range(6 + (number % 5 == 0)):
            small = region > 0 and rng.random() < 0.125
            side = min(float(rng.uniform(40, 90) if small else rng.uniform(110, 300)), width / 2, height / 2)
            box = [float(rng.uniform(0, width - side)), float(rng.uniform(0, height - side)), side, side]
            content["annotations"].append(
                {"image_id": number, "category_id": 1, "bbox": box, "caption": f"a thing, {region} of these"}
            )
    (folder / "instances.json").write_text(json.dumps(content))
    return SourceSpec(
        "Photos", "natural", "UMG-41M", "pretrain", "coco", str(folder), "given", "given", "given", shards
    )


def step_files(folder: Path, step: str, shard: int) -> list[Path]:
    """The outputs of a step, in the order in which its function takes them."""
    return [folder / step / f"{shard:05d}{suffix}" for suffix in SUFFIXES[step]]


class Unchanged:
    """An annotator that changes nothing: what is left is the work around every annotator, its journal too."""

    batch_size = 8

    def describe(self) -> dict[str, str]:
        return {"unchanged": "1"}

    def annotate(self, samples: list[Sample]) -> list[Annotated]:
        return [Annotated(sample.record) for sample in samples]

    def close(self) -> None:
        pass


def run_step(step: str, source: SourceSpec, folder: Path, shard: int) -> None:
    """One job of the graph: catalogue, ingest, annotate (`Unchanged`), filter or pack."""
    catalogue, out = folder / "catalogue.sqlite", step_files(folder, step, shard) if step in SUFFIXES else []
    if step == "catalogue":
        catalogue_source(source, catalogue)
    elif step == "ingest":
        shares = {"max_reject_share": 0.0, "max_cut_share": 1.0}
        ingest_shard(source, shard, catalogue, *out, max_pixels=10**8, **shares)
    elif step == "annotate":
        journal = folder / f"{shard:05d}.journal.jsonl"
        annotate_shard(step_files(folder, "ingest", shard)[0], *out, [Unchanged()], journal)
    elif step == "filter":
        filter_shard(step_files(folder, "annotate", shard)[0], *out, FilterRules())
    else:
        tar, records = step_files(folder, "ingest", shard)[0], step_files(folder, "filter", shard)[0]
        pack_shard(tar, records, *out)
