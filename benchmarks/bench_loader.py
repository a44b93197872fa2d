"""The training loader against plain webdataset and PIL: images per second from shards to batches.

Ours is what a run trains from: Feed over Batches and ImageStore, with worker processes. It draws images from
a mixture in the order of a seeded permutation, reads each by its byte range, decodes, pads and resizes it to
512 x 512, and also tokenises and packs the image's question-answer pairs, which the baseline does not do. The
baseline is webdataset reading the same shards from start to end without shuffling, PIL decoding, padding and
resizing (bicubic) each image, batches of the same size, in the same number of worker processes. Starting the
processes counts on both sides; passes over all images take turns.

Images are JPEGs cut from photographs, the longer side 640 to 1600 px; with `--photographs FOLDER` a folder of
JPEGs is measured instead (COCO's 640 px, say). Both sides' pixels are compared first: they are the same, but
for photographs that ours decodes at a reduced size (TOLERANCE, mean over an image). Prints a line a number of
workers, then one JSON line (ours, baseline, ratio: with one worker). Run it from the repository's root on an
idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import webdataset
from data_work import photographs, run_step, step_files, write_source
from PIL import Image
from stage_model import SIZES, Size, build_model
from torch.utils.data import DataLoader

from granvit.data.mixtures.mixture import Drawing
from granvit.training.batches import Batches, Feed, Order, Samples
from granvit.training.examples import Examples, Mixture
from granvit.training.images import ImageStore

SIDE, BATCH, SHARDS = 512, 16, 4
TASKS = ("global_caption", "bbox2caption")
TOLERANCE = 2.0  # of 255


def prepare(folder: Path, pictures: list[bytes]) -> tuple[Path, list[str]]:
    """A mixture of all pictures, and its shards."""
    source = write_source(folder / "source", len(pictures), pictures, SHARDS)
    with contextlib.redirect_stderr(io.StringIO()):  # the jobs' progress
        run_step("catalogue", source, folder, 0)
        for shard in range(SHARDS):
            for step in ("ingest", "annotate", "filter", "pack"):
                run_step(step, source, folder, shard)
        packed = [step_files(folder, "pack", shard) for shard in range(SHARDS)]
        indexes, mixture = [index for _, index in packed], folder / "mixture.parquet"
        Drawing(indexes, mixture, folder / "summary.json", 0.0).regions(TASKS, None, 1.0)
    return mixture, [str(tar) for tar, _ in packed]


def training_loader(mixture: Mixture, model, workers: int) -> Iterator[torch.Tensor]:
    """Pixels of every batch of one epoch, as a run's trainer gets them."""
    images = ImageStore(mixture, model, keep=False)
    order = Order(len(mixture), 1, BATCH, seed=0)
    samples = Samples(Examples(mixture, model, TASKS, keep=False), images)
    feed = Feed(Batches(samples, order, model), workers)
    for step in range(order.steps):
        (micro,) = feed[step].micros
        yield micro.pixels


def plain_loader(shards: list[str], workers: int) -> Iterator[torch.Tensor]:
    """The same by webdataset and PIL."""
    samples = webdataset.WebDataset(shards, shardshuffle=False).map(plain_pixels)
    batches = samples.batched(BATCH, collation_fn=torch.stack)
    yield from DataLoader(batches, batch_size=None, num_workers=workers)


def plain_pixels(sample: dict) -> torch.Tensor:
    """(3, SIDE, SIDE) of a sample's JPEG, padded to a centred grey square."""
    image = Image.open(io.BytesIO(sample["jpg"])).convert("RGB")
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), (128, 128, 128))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    resized = canvas.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def check_same_pixels(mixture: Mixture, model, shards: list[str]) -> float:
    """The largest mean difference of an image's pixels between the two sides; exits where it is too large."""
    ours, rows = ImageStore(mixture, model, keep=False), mixture.table["key"].to_pylist()
    numbers = {key: number for number, key in enumerate(rows)}
    worst = 0.0
    for sample in webdataset.WebDataset(shards, shardshuffle=False):
        difference = ours[numbers[sample["__key__"]]].int() - plain_pixels(sample).int()
        worst = max(worst, float(difference.abs().float().mean()))
    if worst > TOLERANCE:
        sys.exit(
            f"error: pixels differ by {worst:.2f} on average (expected <= {TOLERANCE}): not the same work"
        )
    return worst


def rate(loader: Iterator[torch.Tensor], images: int) -> float:
    """Images per second of one pass."""
    begin, seen = time.perf_counter(), 0
    for pixels in loader:
        seen += len(pixels)
    if seen != images:
        sys.exit(f"error: {seen} images came out of {images}: not the same work")
    return images / (time.perf_counter() - begin)


def compare(
    pictures: list[bytes], workers: list[int], repeats: int
) -> tuple[int, dict[int, tuple[float, float]]]:
    """How many of the pictures pass the filters, and median images per second of both sides by number of
    workers."""
    torch.set_num_threads(1)
    encoder = {**SIZES["tiny"].encoder, "image_size": SIDE, "patch_size": 16}
    model = build_model(Size(encoder, SIZES["tiny"].llm, (SIDE, SIDE)), torch.device("cpu"))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path, shards = prepare(Path(folder), pictures)
        mixture = Mixture(path)
        worst = check_same_pixels(mixture, model, shards)
        images = len(mixture)
        print(f"{images} images; mean difference of an image's pixels at most {worst:.3f} of 255")
        for count in workers:
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(repeats):
                rates[0].append(rate(training_loader(mixture, model, count), images))
                rates[1].append(rate(plain_loader(shards, count), images))
            ours, baseline = found[count] = tuple(map(statistics.median, rates))
            print(
                f"{count} workers: {ours:.1f} images/s ({ours / count:.1f} a core), "
                f"plain {baseline:.1f} ({baseline / count:.1f} a core)"
            )
    return images, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400, help="drawn, where no folder is given")
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs to measure instead")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 2], help="worker processes, the first: 1"
    )
    parser.add_argument("--repeats", type=int, default=3, help="passes of each side")
    arguments = parser.parse_args()
    if arguments.photographs:
        pictures = [path.read_bytes() for path in sorted(arguments.photographs.glob("*.jpg"))]
    else:
        pictures = photographs(arguments.images, (640, 1600), 85)
    images, found = compare(pictures, arguments.workers, arguments.repeats)
    first, last = min(found), max(found)
    ours, baseline = found[first]
    result = {
        "benchmark": "loader",
        "ours": round(ours, 1),
        "baseline": round(baseline, 1),
        "unit": "images/s",
    }
    result |= {"ratio": round(ours / baseline, 2), "workers": first, "per_core": round(ours / first, 1)}
    result |= {"workers_scaled": last, "scaling": round(found[last][0] / ours, 2)}
    result |= {"ratio_scaled": round(found[last][0] / found[last][1], 2)}
    print(json.dumps({**result, "images": images}))


if __name__ == "__main__":
    main()
