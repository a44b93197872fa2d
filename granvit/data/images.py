"""Image bytes: what they are, and how they look when shown.

Only what a browser would show is taken: the first picture of an animated or many-paged file (the one that
boxes and captions were made on, since every annotator's reader opens that one), turned as EXIF says.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff", "GIF": "gif",
}  # fmt: skip
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]  # MPO, a phone's JPEG of two pictures, opens as JPEG
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# What a damaged header makes Pillow say is counted by cause where it matters, and noise where it does not.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class UnreadableImage(ValueError):
    """The bytes are no image that can be shown; the message is the cause, as counted in rejects.csv."""


@dataclass(frozen=True)
class ImageFacts:
    """``width`` and ``height`` as shown; ``stored_size`` before the EXIF orientation (1-8) is applied.

    ``several``: the file holds more pictures than the first, which is the one that is shown.
    """

    extension: str
    width: int
    height: int
    stored_size: tuple[int, int]
    orientation: int
    several: bool = False


def inspect_image(data: bytes, max_pixels: int | None = None) -> tuple[ImageFacts, Image.Image]:
    """Decode the whole image once, so that a truncated file is found here and not in training; what it is,
    and the RGB image as shown.

    Raises UnreadableImage with one of the causes ``empty_image``; ``not_an_image`` (no header of a format in
    ``FORMATS``); ``too_large`` (the header states more than ``max_pixels``: nothing is decoded);
    ``unsupported_pixels`` (whole or floating-point numbers of 32 bits, whose black and white no file states);
    ``corrupt_image``.
    """
    if not data:
        raise UnreadableImage("empty_image")
    try:
        with open_image(data) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise UnreadableImage("too_large")
            extension = EXTENSIONS[image.format]
            orientation = read_orientation(image)  # before decoding: Pillow turns a TIFF itself, then forgets
            shown = as_shown(image)
            several = bool(getattr(image, "is_animated", False))
    except (UnreadableImage, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage("not_an_image") from error
    except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError, struct.error and more
        raise UnreadableImage("corrupt_image") from error
    stored = shown.size if orientation < 5 else shown.size[::-1]
    return ImageFacts(extension, *shown.size, stored, orientation, several), shown


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """The image with its header read, of any size that the header states: the caller judges it, or ingest
    has. Raises what Pillow raises."""
    with _own_pixel_limit(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        yield image


def decode_rgb(data: bytes, max_pixels: int | None = None) -> Image.Image:
    """The image as shown (``as_shown``). Raises UnreadableImage as ``inspect_image`` does.

    Without ``max_pixels`` any size is decoded: for images that ingest has let in.
    """
    return inspect_image(data, max_pixels)[1]


def as_shown(image: Image.Image) -> Image.Image:
    """An opened image, EXIF orientation applied, transparency over white, 16-bit grey scaled to 8, in RGB.

    Transparency goes over white because charts and diagrams are drawn for a white page; dropped, their black
    text would lie on black.
    """
    image.load()
    orientation = read_orientation(image)
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if image.mode in ("I", "F"):
        raise UnreadableImage("unsupported_pixels")
    if image.mode.startswith("I;16"):
        return _shrink_to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _shrink_to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey -> 8-bit grey; a value that stands for transparency becomes white."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1-8; 1 where there is none or the EXIF block is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a block of arbitrary bytes, read by Pillow's TIFF reader
        return 1
    return orientation if orientation in range(1, 9) else 1


_limit_lock = threading.Lock()
_limit_lifted_by = 0
_pillow_limit: int | None = None


@contextmanager
def _own_pixel_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which is one number for the whole process and only warns up to twice
    that. Threads may be inside together."""
    global _limit_lifted_by, _pillow_limit
    with _limit_lock:
        if not _limit_lifted_by:
            _pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _limit_lifted_by += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_lifted_by -= 1
            if not _limit_lifted_by:
                Image.MAX_IMAGE_PIXELS = _pillow_limit
