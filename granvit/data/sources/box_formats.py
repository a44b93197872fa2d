"""How a source writes its boxes, and whether they fit its images when they are read so.

Four numbers are corners, a corner and a size, or a centre and a size, in pixels or as fractions of the image,
and no file says which. Read wrongly, boxes mostly still lie on the image in part, and are cut to what looks
like a box; so boxes that had to be cut are counted, and the other ways to read them are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from granvit.boxes import Box, from_cxcywh, from_relative, from_xywh, overhang, to_cxcywh, to_xywh

_SHAPES: dict[str, tuple[Callable[[Box], list[float]], Callable[[Box], list[float]]]] = {
    "xyxy": (list, list),
    "xywh": (from_xywh, to_xywh),
    "cxcywh": (from_cxcywh, to_cxcywh),
}
_RELATIVE = "_relative"
BOX_FORMATS = tuple(shape + unit for unit in ("", _RELATIVE) for shape in _SHAPES)
LISTED = ", ".join(_SHAPES) + f" in pixels; with {_RELATIVE} behind, as fractions of the image"
# Beyond the border: rounding, corners that count from 1, and annotators' hands. Of the image's longer side.
_TOLERANCE = 0.005
_SMALLEST = 1.0  # pixel: below it in both directions a box is a fraction that was taken for pixels
_KEPT = 1000  # boxes that other formats are tried on


def to_corners(values: Sequence[float], form: str) -> list[float]:
    """Four numbers in ``form`` (of BOX_FORMATS) as ``[x1, y1, x2, y2]``, in the unit in which they came."""
    return _SHAPES[form.removesuffix(_RELATIVE)][0](values)


def in_pixels(corners: Box, form: str, width: int, height: int) -> list[float]:
    """What ``to_corners`` gave, in pixels of the ``width`` x ``height`` image that was annotated."""
    return from_relative(corners, width, height) if form.endswith(_RELATIVE) else list(corners)


def is_cut(box: Box, width: int, height: int) -> bool:
    """Whether a box in pixels reaches beyond its image by more than a rounding error."""
    return overhang(box, width, height) > max(1.0, _TOLERANCE * max(width, height))


def is_speck(box: Box) -> bool:
    """Whether a box in pixels is below one pixel in both directions."""
    return max(box[2] - box[0], box[3] - box[1]) < _SMALLEST


def _fits(box: Box, width: int, height: int) -> bool:
    in_order = box[0] < box[2] and box[1] < box[3]
    return in_order and not is_speck(box) and not is_cut(box, width, height)


@dataclass
class BoxFits:
    """The first boxes of a shard as read in ``form``, to say which format would have fitted better."""

    form: str
    _seen: list[tuple[Box, int, int]] = field(default_factory=list)

    def add(self, corners: Box, width: int, height: int) -> None:
        """Take note of what ``to_corners`` gave, and of the image's size in the frame of the box."""
        if len(self._seen) < _KEPT:
            self._seen.append((corners, width, height))

    def counts(self) -> dict[str, int]:
        """How many of the boxes lie on their images, corners in order, in each format."""
        written = [(_SHAPES[self.form.removesuffix(_RELATIVE)][1](box), *size) for box, *size in self._seen]
        return {
            form: sum(_fits(in_pixels(to_corners(box, form), form, *size), *size) for box, *size in written)
            for form in BOX_FORMATS
        }

    def advice(self, is_option: bool) -> str:
        """Which formats fit better than the one that was used, best first; empty where none does.

        ``is_option``: the source's row can name the format.
        """
        counts = self.counts()
        better = sorted(
            (form for form in counts if counts[form] > counts[self.form]), key=lambda f: -counts[f]
        )
        if not better:
            return ""
        tried = ", ".join(f"{form} {counts[form]}" for form in better)
        remedy = f"; set box_format={better[0]} in the row's `options`" if is_option else ""
        return (
            f"Of the first {len(self._seen)} boxes {counts[self.form]} lie on their images when read as "
            f"{self.form}; better: {tried}{remedy}"
        )
