"""RefCOCO: reading a box out of an answer, and IoU >= 0.5."""

from __future__ import annotations

import re
from collections.abc import Sequence

from granvit import boxes

IOU_THRESHOLD = 0.5
LARGEST_RELATIVE = 1.5  # up to here numbers are taken for shares of the image ...
LARGEST_THOUSANDTH = 1000.0  # ... up to here for thousandths of it, above for pixels

_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_BRACKETED = re.compile(r"\[\s*" + r"(?:\s*,\s*|\s+)".join([f"({_NUMBER})"] * 4) + r"\s*\]")


def parse_numbers(text: str) -> list[float] | None:
    """The first four numbers in brackets, else the first four anywhere, else None."""
    bracketed = _BRACKETED.search(text)
    numbers = list(bracketed.groups()) if bracketed else re.findall(_NUMBER, text)[:4]
    return [float(number) for number in numbers] if len(numbers) == 4 else None


def to_pixels(numbers: Sequence[float], width: float, height: float) -> list[float]:
    """Four numbers of a guessed scale -> a pixel box inside the image, corners in order."""
    largest = max(abs(number) for number in numbers)
    scale = 1.0 if largest <= LARGEST_RELATIVE else 1000.0 if largest <= LARGEST_THOUSANDTH else None
    box = boxes.from_relative([number / scale for number in numbers], width, height) if scale else numbers
    return boxes.around(boxes.clip_box(box, width, height))


def read_box(prediction: str, width: float, height: float) -> list[float] | None:
    """The pixel box that an answer gives, or None where it gives none."""
    numbers = parse_numbers(str(prediction))
    return to_pixels(numbers, width, height) if numbers and width > 0 and height > 0 else None


def iou50(prediction: str, gold: Sequence[float], width: float, height: float) -> int:
    """1 if the box read from ``prediction`` overlaps ``gold`` (pixels) with IoU >= 0.5; in an image without a
    size nothing can.
    """
    box = read_box(prediction, width, height)
    return int(box is not None and boxes.iou(box, gold) >= IOU_THRESHOLD)
