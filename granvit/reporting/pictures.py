"""A picture on a page, with boxes on it that are numbered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.offsetbox import DrawingArea
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox
from PIL import Image

from granvit.boxes import Box
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Record, readable_key
from granvit.errors import GranvitError
from granvit.reporting.drawing import DPI, GREY, PALE, add_tag, colour_of, tag_size


def decoded(image: bytes, key: str) -> Image.Image:
    """The image as shown (EXIF applied). Raises GranvitError for one that is packed but cannot be decoded."""
    try:
        return decode_rgb(image)
    except (OSError, ValueError) as error:
        raise GranvitError(
            f"{readable_key(key)}: its image cannot be decoded ({error}); the packed shard is damaged: "
            "delete it and make it again"
        ) from error


class Picture(DrawingArea):
    """A picture, or the ``window`` of it (pixels), as large as ``width`` x ``height`` points allow."""

    def __init__(
        self, image: Image.Image, width: float, height: float, window: Sequence[int] | None = None
    ) -> None:
        window = window or (0, 0, image.width, image.height)
        part = image.crop(window)
        scale = min(width / part.width, height / part.height)
        super().__init__(scale * part.width, scale * part.height)
        self.bounds = Bbox.from_bounds(0, 0, self.width, self.height)
        self.to_points = Affine2D().translate(-window[0], -window[3]).scale(scale, -scale)
        # No finer than the page: a figure holds dozens of photographs.
        part.thumbnail([max(1, side * DPI / 72) for side in self.bounds.size], Image.Resampling.LANCZOS)
        self.add_artist(BboxImage(TransformedBbox(self.bounds, self.get_transform()), data=part))
        self.frame(window, edgecolor=PALE, linewidth=0.4)

    def place(self, box: Box) -> Bbox:
        """A box of the whole picture, in points from the lower left corner of what is shown."""
        return Bbox(self.to_points.transform([(box[0], box[3]), (box[2], box[1])]))

    def frame(self, box: Box, **look: object) -> None:
        """A rectangle around a box."""
        place = self.place(box)
        self.add_artist(Rectangle(place.p0, *place.size, fill=False, **look))

    def strike_out(self, box: Box) -> None:
        """Both diagonals of a box."""
        x, y = self.place(box).get_points().T
        for heights in (y, y[::-1]):
            self.add_artist(Line2D(x, heights, color=GREY, linewidth=0.9))

    def draw_boxes(
        self, record: Record, listed: Sequence[int], dropped_by: Sequence[str | None] = ()
    ) -> None:
        """All boxes, thin; those in ``listed`` (rising) strong, in a colour of their own, numbered from 1.

        ``dropped_by``: the rule that drops each box. What is dropped is grey and struck out, and named by its
        number and the rule. A box around a line of text is thin, and its number beside all lines if it can
        be, so that the text can be read.
        """
        lines = [self.place(region.box) for region in record.regions] if record.data_type == "ocr" else []
        width, halo = (0.8, 1.4) if lines else (1.2, 2.2)
        strong = {"linewidth": width, "path_effects": [withStroke(linewidth=halo, foreground="white")]}
        labels: list[tuple[str, str]] = []
        for at, region in enumerate(record.regions):
            rule = dropped_by[at] if dropped_by else None
            colour = GREY if rule else colour_of(len(labels))
            if rule:
                self.frame(region.box, edgecolor=colour, linestyle="--", **strong)
                self.strike_out(region.box)
            elif at in listed:
                self.frame(region.box, edgecolor=colour, **strong)
            else:
                self.frame(region.box, edgecolor=PALE, linewidth=0.4)
            if at in listed:
                labels.append((f"{len(labels) + 1} {rule or ''}".strip(), colour))
        targets = [self.place(record.regions[at].box) for at in listed]
        places = place_labels(targets, [tag_size(text) for text, _ in labels], self.bounds, lines)
        for (text, colour), place in zip(labels, places, strict=True):
            if place:
                add_tag(self, place, text, colour)


def place_labels(
    targets: Sequence[Bbox], sizes: Sequence[tuple[float, float]], bounds: Bbox, avoid: Sequence[Bbox] = ()
) -> list[Bbox | None]:
    """A place of ``sizes[i]`` for the label of each target. No label leaves ``bounds`` or lies on another.

    The first free place is taken. Places at the target come first: those off ``avoid`` (lines of text, which
    a label would hide), then the others. After them comes the nearest free place of a grid over ``bounds``.
    A label that finds none is None.
    """
    placed: list[Bbox | None] = []
    room = bounds.padded(1e-6)  # rounding moves no label out
    for target, (width, height) in zip(targets, sizes, strict=True):
        columns = np.arange(bounds.x0, bounds.x1, width)
        rows = np.arange(bounds.y1, bounds.y0, -height) - height
        corner = (target.x0, target.y1 - height)
        near = list(_corners_at(target, width, height))
        far = sorted(product(columns, rows), key=partial(math.dist, corner))
        tries = [*((at, avoid) for at in near), *((at, ()) for at in (*near, *far))]
        taken = [place for place in placed if place]
        free = (
            place
            for at, others in tries
            if room.contains(*(place := Bbox.from_bounds(*at, width, height)).p0)
            and room.contains(*place.p1)
            and not any(map(place.fully_overlaps, (*taken, *others)))
        )
        placed.append(next(free, None))
    return placed


def _corners_at(target: Bbox, width: float, height: float) -> Iterator[tuple[float, float]]:
    """Lower left corners of a label in the target's corners, if it is high, beside it, above and below it."""
    edges = (target.x0, target.x1 - width)
    if target.height >= 2.5 * height:
        yield from ((x, y) for y in (target.y1 - height, target.y0) for x in edges)
    middle = target.y0 + (target.height - height) / 2
    yield from ((target.x0 - width, middle), (target.x1, middle))
    yield from ((x, y) for x in edges for y in (target.y1, target.y0 - height))
