"""Whether an encoder looks where it is asked: the number behind Fig. 1b.

For each held-out box the query is the patch at the box's centre. Its map is compared inside the box and over
the whole image: how much of the map falls into the box, divided by the box's share of the image. 1.0 is a map
that is alike everywhere, 4.0 one that is four times as dense in the box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from granvit.boxes import Box, clip_box, to_canvas
from granvit.device import pick_device
from granvit.evaluation.heldout_regions import HeldOutImage, count_images, heldout_images
from granvit.files import replacing
from granvit.models.attention_maps import PatchMaps
from granvit.models.encoders import Encoder, load_saved_encoder
from granvit.progress import Progress

MEASURES = (
    "attention", "cosine", "attention_beyond", "cosine_beyond", "mean_cosine_in_box", "mean_cosine_in_image",
)  # fmt: skip
IMAGES_AT_ONCE = 16
DIGITS = 6  # those that do not depend on how a machine adds
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("data_type", pa.string()),
        ("box", pa.list_(pa.float64())),
        ("share", pa.float64()),
        *((name, pa.float64()) for name in MEASURES),
    ]
)


def coverage(box: Box, width: int, height: int, grid: int) -> np.ndarray:
    """(grid * grid,): which share (0-1) of each patch of the padded square lies in a ``box``, pixels of a
    ``width`` x ``height`` image. Of the whole image: 0 for a patch of padding."""
    x1, y1, x2, y2 = to_canvas(clip_box(box, width, height), width, height, grid)
    edges = np.arange(grid)
    rows, columns = (
        np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, 1)
        for low, high in ((y1, y2), (x1, x2))
    )
    return np.outer(rows, columns).ravel()


def query_patch(x: float, y: float, width: int, height: int, grid: int) -> int:
    """The patch that holds a point (pixels of the original image), in raster order."""
    place = to_canvas([x, y, x, y], width, height, grid)
    column, row = (min(max(int(value), 0), grid - 1) for value in place[:2])
    return row * grid + column


def centre_patch(box: Box, width: int, height: int, grid: int) -> int:
    """The patch that holds a box's centre."""
    x1, y1, x2, y2 = clip_box(box, width, height)
    return query_patch((x1 + x2) / 2, (y1 + y2) / 2, width, height, grid)


@dataclass(frozen=True)
class Place:
    """A query's patch, and what of each patch lies in its box and in the image (``coverage``)."""

    patch: int
    in_box: np.ndarray
    in_image: np.ndarray

    @classmethod
    def of(cls, box: Box, width: int, height: int, grid: int) -> Place:
        """The place of a box on the padded square of a ``width`` x ``height`` image."""
        whole = coverage([0, 0, width, height], width, height, grid)
        return cls(centre_patch(box, width, height, grid), coverage(box, width, height, grid), whole)

    @property
    def share(self) -> float:
        """Of the image that lies in the box (0-1)."""
        return float(self.in_box.sum() / self.in_image.sum())

    @property
    def beyond(self) -> Place:
        """The same without the query's own patch."""
        others = np.arange(len(self.in_box)) != self.patch
        return Place(self.patch, self.in_box * others, self.in_image * others)


def density(weights: np.ndarray, place: Place) -> float | None:
    """How dense a map (T,) is in the box, over how dense it is in the image, patches counted by their part
    inside: the box's share of the map by its share of the image. Below 0 counts as 0. None where nothing of
    the box, or of the map, is there."""
    weights = np.maximum(weights, 0)
    whole = weights @ place.in_image
    if not (place.in_box.sum() > 0 and whole > 0):
        return None
    inside = (weights @ place.in_box) / place.in_box.sum()
    return float(inside / (whole / place.in_image.sum()))


def measures(attention: np.ndarray, cosine: np.ndarray, place: Place) -> dict[str, float | None]:
    """MEASURES of one query by name, from its two maps (T,)."""
    found = {
        "attention": density(attention, place),
        "cosine": density(cosine, place),
        "attention_beyond": density(attention, place.beyond),
        "cosine_beyond": density(cosine, place.beyond),
        "mean_cosine_in_box": float(cosine @ place.in_box / place.in_box.sum()),
        "mean_cosine_in_image": float(cosine @ place.in_image / place.in_image.sum()),
    }
    return {name: None if value is None else round(value, DIGITS) for name, value in found.items()}


def measure_locality(
    model: str | Path,
    mixture: str | Path,
    data_types: Mapping[str, str],
    out: str | Path,
    device: str = "auto",
    log: str | Path | None = None,
) -> None:
    """Write one row a held-out box (``SCHEMA``) for the encoder of a run's ``model`` folder.

    Of a model with tiling it is the global view that is looked at. Raises GranvitError for a model, mixture
    or image that cannot be read.
    """
    encoder = load_saved_encoder(Path(model) / "encoder").to(pick_device(device))
    images, done = heldout_images(mixture), 0
    progress = Progress(count_images(mixture), "locality", "images", log)
    with replacing(out) as staged, pq.ParquetWriter(staged, SCHEMA) as file:
        while some := list(islice(images, IMAGES_AT_ONCE)):
            file.write_table(pa.Table.from_pylist(list(_rows(encoder, some, data_types)), SCHEMA))
            done += len(some)
            progress.update(done)


def look(encoder: Encoder, pixels: Sequence[torch.Tensor]) -> PatchMaps:
    """The maps of some images as ``Encoder.preprocess`` gives them."""
    return PatchMaps(encoder, encoder.normalise(torch.stack(list(pixels)).to(encoder.mean.device)))


def _rows(encoder: Encoder, images: Sequence[HeldOutImage], data_types: Mapping[str, str]) -> Iterator[dict]:
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # Pillow works outside Python's lock
        pixels = list(threads.map(lambda image: encoder.preprocess(image.open()), images))
    maps = look(encoder, pixels)
    for number, image in enumerate(images):
        data_type, boxes = image.data_type(data_types), image.boxes
        if not boxes:
            continue
        places = [Place.of(box, image.width, image.height, encoder.grid) for box in boxes]
        patches = sorted({place.patch for place in places})
        attention, cosine = (
            dict(zip(patches, of(number, patches).cpu().double().numpy(), strict=True))
            for of in (maps.attention, maps.cosine)
        )
        for box, place in zip(boxes, places, strict=True):
            if place.in_box.sum() > 0:
                row = {"key": image.key, "data_type": data_type, "box": box}
                found = measures(attention[place.patch], cosine[place.patch], place)
                yield row | {"share": round(place.share, DIGITS)} | found
