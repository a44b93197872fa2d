"""The pictures of the galleries: each one once, small, under the digest that its questions name it by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.evaluation.tsv_files import read_images

QUALITY = 80  # of WebP; text stays legible
_DIGITS = 20  # of a digest, in a file's name


@dataclass(frozen=True)
class Picture:
    """A picture below the report's folder; ``width`` and ``height`` as it lies there, ``full`` as the model's
    file has it (pixels)."""

    path: str
    width: int
    height: int
    full: tuple[int, int]


def write_images(
    tsv: Path, wanted: Collection[str], site: Path, side: int, say: Callable[[str], None]
) -> Iterator[tuple[str, Picture]]:
    """Write the ``wanted`` pictures of a benchmark's file, their longer side at most ``side`` pixels; each
    with its digest. One that cannot be read is named and left out."""
    for digest, data in read_images(tsv, wanted) if wanted else ():
        try:
            image = decode_rgb(data)
        except UnreadableImage as error:
            say(f"{tsv}: image {digest[:_DIGITS]} is not shown: {error}")
            continue
        full = image.size
        image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2)
        path = f"images/{digest[:_DIGITS]}.webp"
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(site / path, "WEBP", quality=QUALITY, method=0)
        yield digest, Picture(path, *image.size, full)
