"""What a user asks about one image of their own: places in it, as they were typed, and questions on them.

Without torch: a mistake is told before a model is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from granvit.boxes import Box, area, clip_box, contains, from_relative
from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.errors import GranvitError

MAX_PIXELS = 100_000_000  # open: as data.max_image_pixels; more are taken for a decompression bomb
POINT_SIDE = 0.25  # open: side of the square that stands for a point, of the image's shorter side
PIXELS, FRACTIONS = "pixels", "fractions"
_CAUSES = {
    "empty_image": "the file is empty",
    "not_an_image": "it is no image of a known format",
    "too_large": f"it has more than {MAX_PIXELS:,} pixels",
    "unsupported_pixels": "its pixels are of a kind that states no black and white",
    "corrupt_image": "it is damaged",
}


@dataclass(frozen=True)
class Region:
    """A ``box`` in pixels of the image as shown, and how it was typed: ``pixels`` or ``fractions``."""

    box: list[float]
    read_as: str


def open_picture(path: str | Path) -> Image.Image:
    """The image as shown: EXIF applied, in RGB. Raises GranvitError for what is no image."""
    if not str(path).strip():
        raise GranvitError("the image's name is empty; give the file of an image")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise GranvitError(f"{path}: cannot be read ({error.strerror}); give the file of an image") from None
    try:
        return decode_rgb(data, MAX_PIXELS)
    except UnreadableImage as error:
        cause = _CAUSES.get(str(error), str(error))
        raise GranvitError(f"{path}: cannot be shown, {cause}; give a JPEG, PNG or WebP") from None


def read_box(text: str, width: int, height: int) -> Region:
    """``x1,y1,x2,y2``, in pixels of a ``width`` x ``height`` image, or as fractions of it where none is above
    1; brackets and spaces may stand there.

    Raises GranvitError for anything else, and for a box that is empty or reaches beyond the image.
    """
    numbers, read_as = _read(text, "--box", "x1,y1,x2,y2", width, height)
    size = f"the image has {width} x {height} pixels"
    if not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise GranvitError(f"--box {text}: x1 must be below x2 and y1 below y2; {size}")
    if read_as == PIXELS and (numbers[2] - numbers[0] < 1 or numbers[3] - numbers[1] < 1):
        raise GranvitError(
            f"--box {text}: read as pixels, since a number is above 1, it is less than a pixel wide or high; "
            f"fractions lie between 0 and 1; {size}"
        )
    return Region(numbers, read_as)


def read_point(text: str, width: int, height: int) -> tuple[float, float, str]:
    """``x,y`` in pixels, and how it was typed. Raises GranvitError as `read_box` does."""
    (x, y), read_as = _read(text, "--point", "x,y", width, height)
    return x, y, read_as


def around_point(x: float, y: float, width: int, height: int) -> list[float]:
    """The square that stands for a point where a box is asked for, as far as it lies on the image."""
    half = POINT_SIDE * min(width, height) / 2
    return clip_box([x - half, y - half, x + half, y + half], width, height)


def _read(text: str, option: str, form: str, width: int, height: int) -> tuple[list[float], str]:
    expected = f"{option} {text}: expected {form}, in pixels or as fractions of the image (0 to 1)"
    try:
        numbers = [float(part) for part in text.strip().strip("[]()").split(",")]
    except ValueError:
        raise GranvitError(expected) from None
    if len(numbers) != form.count(",") + 1 or not all(map(math.isfinite, numbers)):
        raise GranvitError(expected)
    read_as = FRACTIONS if max(numbers) <= 1 else PIXELS
    if read_as == FRACTIONS:
        numbers = [value * (width, height)[at % 2] for at, value in enumerate(numbers)]
    around: Box = [*numbers, *numbers] if len(numbers) == 2 else numbers
    if not contains([0, 0, width, height], around):
        raise GranvitError(
            f"{option} {text}: read as {read_as}, it reaches beyond the image of {width} x {height} pixels"
        )
    return numbers, read_as


def require_words(text: str, what: str) -> str:
    """The text without white space around it. Raises GranvitError where nothing is left."""
    if not text.strip():
        raise GranvitError(f"{what} is empty; say what you want to know, such as 'the red square'")
    return text.strip()


def relative(box: Box, width: int, height: int) -> list[float]:
    """Pixels -> fractions of the image, three decimals as in questions."""
    return [round(value / (width, height)[at % 2], 3) for at, value in enumerate(box)]


def located(answer: Sequence[float] | None, width: int, height: int) -> list[float] | None:
    """A box of an answer (fractions) in pixels; None where it has no area."""
    box = from_relative(answer, width, height) if answer else None
    return [round(value, 2) for value in box] if box and area(box) > 0 else None
