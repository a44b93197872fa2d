"""Where a region is: the frames that boxes stand in, and every way from one to another.

Three frames exist. *Pixels of the original image* (what records, mixtures and benchmarks hold), *relative
text* (what the language model reads and writes, Sec. 3: divided by the original image's width and height,
never by the padded square), and *pixels of the canvas* (the padded square that the encoder sees; ROIAlign and
crops work there). A box that is not moved along with the padding is the classic silent bug of this field, so
every such move goes through here; only the frames that other models invent for themselves (a captioner's, an
answer of guessed scale) are read where those models are. Boxes are ``[x1, y1, x2, y2]``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Box = Sequence[float]

_NUMBER = r"(0|1|0\.\d{0,2}[1-9])"
_BOX_TEXT = re.compile(rf"\[{_NUMBER}, {_NUMBER}, {_NUMBER}, {_NUMBER}\]")


def format_box(box: Box, width: float, height: float) -> str:
    """Box text of the paper's prompts (Sec. 3, Fig. 10): ``[0.19, 0.756, 0.417, 0.888]``.

    ``box`` is in pixels of a ``width`` x ``height`` image; what lies outside the image is cut off. Three
    decimals, trailing zeros dropped.
    """
    x1, y1, x2, y2 = clip_box(box, width, height)
    return (
        "[" + ", ".join(_format_number(v) for v in (x1 / width, y1 / height, x2 / width, y2 / height)) + "]"
    )


def _format_number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def parse_box(text: str) -> list[float] | None:
    """The relative box (0-1) that ``format_box`` wrote, or None for any other text.

    Strict on purpose: it measures whether a model has learnt the format (Fig. 4). Surrounding white space is
    allowed; corners out of order are not.
    """
    match = _BOX_TEXT.fullmatch(text.strip())
    if match is None:
        return None
    x1, y1, x2, y2 = (float(number) for number in match.groups())
    return [x1, y1, x2, y2] if x1 <= x2 and y1 <= y2 else None


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes in the same frame; 0 where neither has an area."""
    overlap = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = area(a) + area(b) - overlap
    return overlap / union if union > 0 else 0.0


def area(box: Box) -> float:
    """Square pixels (or of whatever unit the box has); 0 where its corners are out of order."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def clip_box(box: Box, width: float, height: float) -> list[float]:
    """The part of a pixel box that lies inside a ``width`` x ``height`` image (may have no area)."""
    limits = (width, height, width, height)
    # + 0.0: a source's -0.0 would be written with its sign
    return [min(max(float(value), 0.0), float(limit)) + 0.0 for value, limit in zip(box, limits, strict=True)]


def pad_offsets(width: int, height: int) -> tuple[int, int, int]:
    """``(dx, dy, side)``: where an image's top left corner goes on the centred square canvas of its longer
    side.

    Whole pixels, rounded down, because this is also where the image is pasted (LLaVA's ``expand2square``).
    """
    side = max(width, height)
    return (side - width) // 2, (side - height) // 2, side


def to_canvas(box: Box, width: int, height: int, canvas: float) -> list[float]:
    """Pixels of the original image -> pixels of the padded square, resized to ``canvas`` x ``canvas``."""
    dx, dy, side = pad_offsets(width, height)
    scale = canvas / side
    return [(box[0] + dx) * scale, (box[1] + dy) * scale, (box[2] + dx) * scale, (box[3] + dy) * scale]


def from_relative(box: Box, width: float, height: float) -> list[float]:
    """A relative box (0-1) in pixels of a ``width`` x ``height`` image."""
    return [box[0] * width, box[1] * height, box[2] * width, box[3] * height]


def from_padded_square(box: Box, width: int, height: int) -> list[float]:
    """A box relative to the padded square (0-1) in pixels of the ``width`` x ``height`` image.

    LLaVA's training data are said to write boxes so (haotian-liu/LLaVA, issue 606). What lies in the padding
    lies outside the image.
    """
    dx, dy, side = pad_offsets(width, height)
    return [box[0] * side - dx, box[1] * side - dy, box[2] * side - dx, box[3] * side - dy]


def overhang(box: Box, width: float, height: float) -> float:
    """By how many pixels a box reaches beyond a ``width`` x ``height`` image, at the side where it is most; 0
    for one that lies inside."""
    return max(0.0, -box[0], -box[1], box[2] - width, box[3] - height)


def from_xywh(box: Box) -> list[float]:
    """Corner, width and height (COCO's) -> two corners."""
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def to_xywh(box: Box) -> list[float]:
    """Two corners -> corner, width and height (COCO's)."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def from_cxcywh(box: Box) -> list[float]:
    """Centre, width and height (YOLO's) -> two corners."""
    return [box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2]


def to_cxcywh(box: Box) -> list[float]:
    """Two corners -> centre, width and height (YOLO's)."""
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def around(points: Sequence[float]) -> list[float]:
    """The upright box around ``[x1, y1, x2, y2, x3, y3, ...]``."""
    xs, ys = points[::2], points[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]


def widen(box: Box, context: float) -> list[float]:
    """The box with a margin of ``context`` times its sides around it."""
    x1, y1, x2, y2 = box
    dx, dy = context * (x2 - x1), context * (y2 - y1)
    return [x1 - dx, y1 - dy, x2 + dx, y2 + dy]


def shift(box: Box, left: float, top: float) -> list[float]:
    """The same box seen from the point ``(left, top)``."""
    return [box[0] - left, box[1] - top, box[2] - left, box[3] - top]


def contains(outer: Box, inner: Box) -> bool:
    """Whether no part of ``inner`` lies outside ``outer``."""
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def exif_to_display(box: Box, width: int, height: int, orientation: int) -> list[float]:
    """A box on the pixels as stored -> on the image as shown, for an EXIF ``orientation`` (1-8).

    ``width`` and ``height`` are those of the stored pixels. Sources that were annotated with a reader that
    ignores EXIF state boxes in the stored frame.
    """
    x1, y1, x2, y2 = box
    left, top, right, bottom = x1, y1, width - x2, height - y2  # distances from the four sides
    w, h = x2 - x1, y2 - y1
    corner = {
        1: (left, top), 2: (right, top), 3: (right, bottom), 4: (left, bottom),
        5: (top, left), 6: (bottom, left), 7: (bottom, right), 8: (top, right),
    }  # fmt: skip
    x, y = corner[orientation]
    if orientation >= 5:
        w, h = h, w
    return [x, y, x + w, y + h]
