"""Image bytes: what they are, and how they look when shown.

Only what a browser would show is taken: the first picture of an animated or many-paged file (the one that
boxes and captions were made on, since every annotator's reader opens that one), turned as EXIF says.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from granvit.data.records.records import Rejected

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "DIB": "bmp", "TIFF": "tiff",
    "GIF": "gif", "AVIF": "avif", "PPM": "ppm",
}  # fmt: skip
# MPO, a phone's JPEG of two pictures, opens as JPEG
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM"]
_ORIENTATION = 0x0112
_STRIP = 256  # rows
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # two tags of TIFF, and a value of the second
_JPEG_SEGMENT = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # all markers but those without a length after them
_JPEG_END, _JPEG_SCAN, _JPEG_RESTART = b"\xff\xd9", b"\xff\xda", re.compile(rb"\xff[\xd0-\xd7]")
_WIDENED = {"L;2": 85, "L;4": 17}  # what Pillow multiplies a PNG's grey of 2 and 4 bits by
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# What a damaged header makes Pillow say is counted by cause where it matters, and noise where it does not.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# Generated pictures carry the workflow that made them: one compressed text or colour profile of a PNG may be
# as long as Pillow lets all its texts be together (64 MiB, so a bomb is still refused), not 1 MiB.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


class UnreadableImage(Rejected):
    """The bytes are no image that can be shown; the message is the cause, as counted in rejects.csv."""


@dataclass(frozen=True)
class ImageFacts:
    """``width`` and ``height`` as shown; ``stored_size`` before the EXIF orientation (1-8) is applied.

    ``several``: the file holds more pictures than the first, which is the one that is shown; ``later_pages``:
    how many of them are pages of a document (TIFF).
    """

    extension: str
    width: int
    height: int
    stored_size: tuple[int, int]
    orientation: int
    several: bool = False
    later_pages: int = 0


def inspect_image(data: bytes, max_pixels: int | None = None) -> tuple[ImageFacts, Image.Image]:
    """Decode the whole image once, so that a truncated file is found here and not in training; what it is,
    and the RGB image as shown.

    Raises UnreadableImage with one of the causes ``empty_image``; ``not_an_image`` (no header of a format in
    ``FORMATS``); ``too_large`` (the header states more than ``max_pixels``: nothing is decoded);
    ``unsupported_pixels`` (whole or floating-point numbers of 32 bits, whose black and white no file states;
    RGB of 16 bits with a transparent colour, since Pillow keeps 8 bits to compare); ``corrupt_image``.
    """
    if not data:
        raise UnreadableImage("empty_image")
    try:
        with open_image(data) as image:
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise UnreadableImage("too_large")
            extension = EXTENSIONS[image.format]
            if (extension == "jpg" and not _is_whole(data)) or (extension == "png" and not _sums_hold(data)):
                raise UnreadableImage("corrupt_image")
            _widen_transparent_grey(image)
            orientation = read_orientation(image)  # before decoding: Pillow turns a TIFF itself, then forgets
            shown = as_shown(image)
            several = bool(getattr(image, "is_animated", False))
            later_pages = _later_pages(data) if several and image.format == "TIFF" else 0
    except (UnreadableImage, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage("not_an_image") from error
    except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError, struct.error and more
        raise UnreadableImage("corrupt_image") from error
    stored = shown.size if orientation < 5 else shown.size[::-1]
    return ImageFacts(extension, *shown.size, stored, orientation, several, later_pages), shown


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
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """A transparent image on white paper, strip by strip: whole copies of it would be several
    times as large."""
    paper = Image.new("RGB", image.size)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        paper.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return paper


def _later_pages(tiff: bytes) -> int:
    """How many pages lie behind the first, as far as their headers can be read."""
    with suppress(Exception), open_image(tiff) as image:  # damage there is no fault of the first page
        return image.n_frames - 1
    return 0


def _is_whole(jpeg: bytes) -> bool:
    """Whether the first picture comes to its end marker, and its restart markers, where it has any, count on.

    Cameras write such a marker every few blocks, numbered 0-7; where one is missing, so are the blocks before
    it, which decode as something.

    Where a download stopped, a file may go on in zeros, which decode as pixels. Zeros alone prove nothing (a
    blank page can be all zeros), so the segments are walked: that passes by previews, which have an end of
    their own, and stops before whatever lies behind the picture. A whole picture that lacks only the marker
    is refused as well, since nothing tells it from one that lacks its last rows.
    """
    position = scan = 0
    while found := _JPEG_SEGMENT.search(jpeg, position):
        if scan and not _counts_on(jpeg[scan : found.start()]):
            return False
        if found[0] == _JPEG_END:
            return True
        scan = found.end() if found[0] == _JPEG_SCAN else 0
        position = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
    return False


def _counts_on(scan: bytes) -> bool:
    """Whether the restart markers of a JPEG's scan are numbered 0, 1, ... 7, 0, ..."""
    return all(int(mark[1]) - 0xD0 == number % 8 for number, mark in enumerate(_JPEG_RESTART.findall(scan)))


def _sums_hold(png: bytes) -> bool:
    """Whether the pixels are as they were written: Pillow passes by their checksums, and zeros may unpack."""
    position = 8
    while png[position + 4 : position + 8].isalpha():  # a chunk's name; zeros have none
        end = position + 12 + int.from_bytes(png[position : position + 4], "big")
        chunk, checksum = png[position + 4 : end - 4], png[end - 4 : end]
        if chunk.startswith(b"IDAT") and zlib.crc32(chunk) != int.from_bytes(checksum, "big"):
            return False
        position = end
    return True


def _widen_transparent_grey(image: Image.Image) -> None:
    """Before decoding: bring a PNG's transparent grey to 8 bits, as Pillow brings its pixels."""
    if image.format == "PNG" and "transparency" in image.info:
        kind = image.tile[0].args
        if kind == "RGB;16B":
            raise UnreadableImage("unsupported_pixels")
        if kind in _WIDENED:
            image.info["transparency"] *= _WIDENED[kind]


def _shrink_to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 12 (TIFF) or 16 bits -> 8-bit grey; a value that stands for transparency becomes white."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    grey = (values >> tags.get(_BITS, (16,))[0] - 8).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns this over for 8 bits only
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1-8; 1 where there is none or the EXIF block is damaged."""
    if image.format == "PNG":
        image.load()  # as getexif does, since EXIF may come last; but broken pixels raise, and only once
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
