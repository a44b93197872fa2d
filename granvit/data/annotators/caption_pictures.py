"""What a captioner is shown of an image, and in which pixels a box is stated to it.

Qwen2.5-VL states boxes in pixels of its *resized* input (sides in multiples of 28; its authors in issues 676
and 721 of QwenLM/Qwen3-VL), but was not trained to describe a box that is given, and does so unreliably (the
same, issue 782). So a region is asked about with two images, the whole one and the part of it inside the box,
and the box's corners are stated in the frame that the model itself uses, together with that frame's size,
which any other model can read too. The part is cut from the original, so small things keep their detail.
"""

from __future__ import annotations

import base64
import io
import math
from functools import cached_property

from PIL import Image

from granvit.boxes import Box, clip_box
from granvit.data.records.images import decode_rgb, open_image, read_orientation
from granvit.data.records.shards import Sample

MAX_PIXELS = 1280 * 28 * 28  # the model card's advice for Qwen2.5-VL: 256 to 1280 visual tokens an image
MIN_PIXELS = 56 * 56  # the processor enlarges anything smaller
MOST_ASPECT = 200  # the processor refuses longer images
_GRID = 28  # pixels a visual token covers: patches of 14, merged two by two
_READ_BY_ALL = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}

Window = tuple[int, int, int, int]  # whole pixels of the image as shown: left, top, right, bottom


class Picture:
    """One sample's image as it is shown to a captioner; decoded at most once."""

    def __init__(self, sample: Sample) -> None:
        self.record, self.data = sample.record, sample.image

    def view(self, window: Window | None) -> Image.Image:
        """The whole image (None) or a window of it, of at most MAX_PIXELS pixels."""
        return self._whole if window is None else _limited(self._shown.crop(window))

    def data_uri(self, window: Window | None) -> str:
        """The same as a ``data:`` address. The whole image goes as the bytes that came, where every server
        shows them as they are meant; otherwise as a PNG, so that it sees the same pixels as a model here."""
        return self._whole_uri if window is None else _png_uri(self.view(window))

    @cached_property
    def _shown(self) -> Image.Image:
        return decode_rgb(self.data)

    @cached_property
    def _whole(self) -> Image.Image:
        return _limited(self._shown)

    @cached_property
    def _whole_uri(self) -> str:
        media_type = self._readable_as_it_is()
        return _uri(media_type, self.data) if media_type else _png_uri(self._whole)

    def _readable_as_it_is(self) -> str | None:
        """The media type, if no server could show the bytes otherwise than `_shown` does: servers differ in
        what they do with EXIF rotation, transparency, palettes, CMYK, 16 bits and several frames."""
        size = self.record.width, self.record.height
        if sent_size(*size) != size:
            return None
        with open_image(self.data) as image:
            plain = image.mode in ("RGB", "L") and not image.has_transparency_data
            plain = plain and not getattr(image, "is_animated", False) and read_orientation(image) == 1
            return _READ_BY_ALL.get(image.format) if plain else None


def _limited(image: Image.Image) -> Image.Image:
    size = sent_size(*image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _png_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return _uri("image/png", buffer.getvalue())


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def sent_size(width: int, height: int) -> tuple[int, int]:
    """``(width, height)`` of an image as it is sent: its own, or, where the model would see more than
    MAX_PIXELS of it, smaller. Then it is already in the model's frame, whatever limit a server was started
    with."""
    across, down = (round(side / _GRID) * _GRID for side in (width, height))
    return (width, height) if across * down <= MAX_PIXELS else model_size(width, height)


def model_size(width: int, height: int) -> tuple[int, int]:
    """``(width, height)`` to which Qwen2.5-VL resizes an image: the frame of its coordinates.

    The rule is ``smart_resize`` of its processor: both sides the nearest multiple of 28, the area between
    MIN_PIXELS and MAX_PIXELS.
    """
    sides = [round(side / _GRID) * _GRID for side in (width, height)]
    if sides[0] * sides[1] > MAX_PIXELS:
        shrink = math.sqrt(width * height / MAX_PIXELS)
        sides = [max(_GRID, math.floor(side / shrink / _GRID) * _GRID) for side in (width, height)]
    elif sides[0] * sides[1] < MIN_PIXELS:
        grow = math.sqrt(MIN_PIXELS / (width * height))
        sides = [math.ceil(side * grow / _GRID) * _GRID for side in (width, height)]
    return sides[0], sides[1]


def too_long(width: int, height: int) -> bool:
    """Whether the model's processor refuses an image of this shape."""
    return max(width, height) > MOST_ASPECT * min(width, height)


def stated_box(box: Box, width: int, height: int) -> tuple[list[int], tuple[int, int]]:
    """A pixel box of a ``width`` x ``height`` image in whole pixels of the model's frame, and that frame's
    ``(width, height)``."""
    frame = model_size(width, height)
    x1, y1, x2, y2 = clip_box(box, width, height)
    scaled = (x1 * frame[0] / width, y1 * frame[1] / height, x2 * frame[0] / width, y2 * frame[1] / height)
    return [round(value) for value in scaled], frame


def window_of(box: Box, width: int, height: int) -> Window:
    """The part of an image that is cut out for a pixel box: whole pixels around it, and around a tiny or very
    thin box so much more, where the image has it, that a model can take it (56 pixels, an aspect of 100)."""
    x1, y1, x2, y2 = clip_box(box, width, height)
    spans = (math.floor(x1), math.ceil(x2), width), (math.floor(y1), math.ceil(y2), height)
    least = max(2 * _GRID, *(math.ceil((end - start) / 100) for start, end, _ in spans))
    (left, right), (top, bottom) = (_widened(start, end, limit, least) for start, end, limit in spans)
    return left, top, right, bottom


def _widened(start: int, end: int, limit: int, least: int) -> tuple[int, int]:
    size = min(limit, max(end - start, least))
    start = min(max(0, start - (size - (end - start)) // 2), limit - size)
    return start, start + size
