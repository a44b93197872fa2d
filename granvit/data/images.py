"""Image bytes: what they are, and how they look when shown."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageOps

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff", "GIF": "gif",
}  # fmt: skip
_FORMATS = [
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "TIFF",
    "GIF",
]  # MPO, a phone's JPEG of two pictures, is opened as JPEG
_ORIENTATION = 0x0112


class UnreadableImage(ValueError):
    """The bytes are no image that can be shown; the message is the cause, as counted in rejects.csv."""


@dataclass(frozen=True)
class ImageFacts:
    """``width`` and ``height`` as shown; ``stored_size`` before the EXIF orientation (1-8) is applied."""

    extension: str
    width: int
    height: int
    stored_size: tuple[int, int]
    orientation: int


def inspect_image(data: bytes) -> ImageFacts:
    """Decode the whole image once, so that a truncated file is found here and not in training.

    Raises UnreadableImage with the cause ``empty_image``, ``corrupt_image`` or ``too_large``.
    """
    if not data:
        raise UnreadableImage("empty_image")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            image.load()
            stored = image.size
            orientation = image.getexif().get(_ORIENTATION, 1)
            extension = EXTENSIONS[image.format]
    except Image.DecompressionBombError as error:
        raise UnreadableImage("too_large") from error
    except Exception as error:  # damaged bytes make Pillow raise OSError, SyntaxError, struct.error and more
        raise UnreadableImage("corrupt_image") from error
    if orientation not in range(1, 9):
        orientation = 1
    width, height = stored if orientation < 5 else stored[::-1]
    return ImageFacts(extension, width, height, stored, orientation)


def decode_rgb(data: bytes) -> Image.Image:
    """The image as shown: EXIF orientation applied, transparency over white, 16-bit grey scaled to 8, RGB.

    Transparency goes over white because charts and diagrams are drawn for a white page; dropped, their black
    text would lie on black.
    """
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
