"""Boxes over all sizes and shapes: text, canvas, crop and ROIAlign speak of the same pixels.

What is looked at in the second half is a picture whose red value is how far right a pixel lies in the image
and whose green value how far down: whoever cuts a region out of it reads off where he looked.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from granvit.boxes import (
    clip_box,
    exif_to_display,
    format_box,
    pad_offsets,
    parse_box,
    to_canvas,
)
from granvit.models.encoders import Encoder
from granvit.models.roi_align import roi_align
from granvit.models.tiling import cut_tiles, locate_view
from granvit.training.batches import Regions
from granvit.training.distillation import Teacher

CANVAS, PATCH = 128, 16

repeatable = settings(derandomize=True, deadline=None, max_examples=200, database=None)
few = settings(derandomize=True, deadline=None, max_examples=40, database=None)

sides = st.integers(1, 30_000)
sizes = st.tuples(sides, sides)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def images_with_boxes(draw, sizes=sizes, beyond: float = 0.0):
    """``(width, height), box``, the box up to ``beyond`` times the image's side outside of it."""
    width, height = draw(sizes)
    xs = sorted(draw(st.tuples(*[between(-beyond * width, (1 + beyond) * width)] * 2)))
    ys = sorted(draw(st.tuples(*[between(-beyond * height, (1 + beyond) * height)] * 2)))
    return (width, height), [xs[0], ys[0], xs[1], ys[1]]


def _distance(a, b) -> tuple[float, float]:
    """The largest difference along x and along y."""
    return max(abs(a[0] - b[0]), abs(a[2] - b[2])), max(abs(a[1] - b[1]), abs(a[3] - b[3]))


@repeatable
@given(images_with_boxes(beyond=0.5))
def test_pixel_box_comes_back_from_text_within_the_rounding_of_three_decimals(image):
    (width, height), box = image
    relative = parse_box(format_box(box, width, height))
    assert relative is not None
    back = [relative[0] * width, relative[1] * height, relative[2] * width, relative[3] * height]
    x, y = _distance(back, clip_box(box, width, height))
    assert x <= 0.0005001 * width
    assert y <= 0.0005001 * height


@repeatable
@given(images_with_boxes(beyond=0.5))
def test_text_of_a_box_read_back_is_the_same_text(image):
    (width, height), box = image
    text = format_box(box, width, height)
    assert format_box(parse_box(text), 1, 1) == text


@pytest.mark.parametrize("zero", [0.0, -0.0, -1e-12])
def test_box_at_the_border_has_no_sign_in_its_text(zero):
    assert format_box([zero, zero, 5, 5], 10, 10) == "[0, 0, 0.5, 0.5]"


def from_canvas(box, width: int, height: int, canvas: float) -> list[float]:
    """Inverse of `to_canvas`."""
    dx, dy, side = pad_offsets(width, height)
    scale = side / canvas
    return [box[0] * scale - dx, box[1] * scale - dy, box[2] * scale - dx, box[3] * scale - dy]


@repeatable
@given(images_with_boxes(), st.integers(16, 2048))
def test_pixel_box_comes_back_from_whole_pixels_of_the_canvas_within_half_a_pixel_of_it(image, canvas):
    (width, height), box = image
    whole = [round(value) for value in to_canvas(box, width, height, canvas)]
    half = 0.5 * max(width, height) / canvas
    assert max(_distance(from_canvas(whole, width, height, canvas), box)) <= half * (1 + 1e-9)


@repeatable
@given(images_with_boxes(), st.integers(16, 2048))
def test_box_inside_the_image_lies_on_the_canvas_and_clear_of_the_padding(image, canvas):
    (width, height), box = image
    x1, y1, x2, y2 = to_canvas(box, width, height, canvas)
    left, top, right, bottom = to_canvas([0, 0, width, height], width, height, canvas)
    edge = 1e-6 * canvas
    assert -edge <= left - edge <= x1 <= x2 <= right + edge <= canvas + 2 * edge
    assert -edge <= top - edge <= y1 <= y2 <= bottom + edge <= canvas + 2 * edge
    # Centred: the two margins differ by one pixel of the image at most.
    pixel = canvas / max(width, height) + edge
    assert abs(left - (canvas - right)) <= pixel
    assert abs(top - (canvas - bottom)) <= pixel


@repeatable
@given(images_with_boxes(), st.integers(1, 8))
def test_box_turned_by_exif_keeps_its_area_and_turns_back(image, orientation):
    (width, height), box = image
    shown = exif_to_display(box, width, height, orientation)
    shown_size = (height, width) if orientation >= 5 else (width, height)
    assert clip_box(shown, *shown_size) == pytest.approx(shown, abs=1e-6 * max(width, height))
    back = {6: 8, 8: 6}.get(orientation, orientation)
    assert exif_to_display(shown, *shown_size, back) == pytest.approx(box, abs=1e-6 * max(width, height))


def _picture_of_positions(width: int, height: int) -> Image.Image:
    """Red: 0-255 from the left to the right border; green: from top to bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.round(255 * (np.arange(width) + 0.5) / width)
    pixels[..., 1] = np.round(255 * (np.arange(height) + 0.5) / height)[:, None]
    return Image.fromarray(pixels)


def _positions(features: torch.Tensor) -> np.ndarray:
    """(3, h, w) colours -> (2, h, w): where in the image they come from, 0-1 along x and y."""
    return (features[:2] / 255).numpy()


def _expected(relative: list[float], grid: int) -> np.ndarray:
    """(2, grid, grid): centres of the cells that a relative box falls into, 0-1 along x and y."""
    x1, y1, x2, y2 = relative
    centres = (np.arange(grid) + 0.5) / grid
    xs, ys = np.meshgrid(x1 + centres * (x2 - x1), y1 + centres * (y2 - y1))
    return np.stack([xs, ys])


class LocalEncoder(torch.nn.Module):
    """An encoder that sees nothing but each patch's mean colour, so that its features say where they look."""

    spec = SimpleNamespace(patch_size=PATCH)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def feature_parameters(self):
        return [self.weight]

    def forward(self, pixels):
        return F.avg_pool2d(pixels, PATCH).flatten(2).transpose(1, 2) * self.weight


def _preprocess(image: Image.Image, size: int) -> torch.Tensor:
    """The encoders' own preprocessing: (1, 3, size, size), 0-255."""
    encoder = SimpleNamespace(spec=SimpleNamespace(image_size=size, mean=[0.5, 0.5, 0.5]))
    return Encoder.preprocess(encoder, image).float()[None]


def _distillation(crop: int) -> SimpleNamespace:
    return SimpleNamespace(ema_decay=0.9, crop_size=crop, pool="grid", normalise=False)


@st.composite
def pictures_with_regions(draw):
    """``(width, height), box`` in whole pixels: at least two patches long, and a patch away from the padding,
    so that the mean colour of the padding is in no patch that is looked at."""
    width, height = draw(st.tuples(st.integers(60, 400), st.integers(60, 400)))
    patch = max(width, height) * PATCH / CANVAS
    margin, least = math.ceil(1.5 * patch), math.ceil(2 * patch)
    assume(min(width, height) > 2 * margin + least)

    def span(side):
        start = draw(st.integers(margin, side - margin - least))
        return start, draw(st.integers(start + least, side - margin))

    (x1, x2), (y1, y2) = span(width), span(height)
    return (width, height), [x1, y1, x2, y2]


@few
@given(pictures_with_regions())
def test_crop_roi_align_and_text_of_a_region_cover_the_same_pixels(picture):
    (width, height), box = picture
    said = parse_box(format_box(box, width, height))
    pixels = _preprocess(_picture_of_positions(width, height), CANVAS)
    regions = Regions(torch.tensor([to_canvas(box, width, height, CANVAS)]), torch.tensor([0]))

    teacher = Teacher(LocalEncoder(), _distillation(crop=64))
    crop = _positions(teacher.region_features(pixels, regions)[0])
    feature_map = F.avg_pool2d(pixels, PATCH)
    aligned = roi_align(feature_map, regions.boxes, regions.views, crop.shape[1:], 1 / PATCH)
    aligned = _positions(aligned[0])

    expected = _expected(said, 4)
    # Colours come in steps of 1/255, the text in steps of 1/1000; a canvas pixel is 1/128 of the longer side.
    tolerance = 0.5 / 1000 + 1 / 255
    assert np.abs(crop - expected).max() < tolerance
    assert np.abs(aligned - expected).max() < tolerance
    # Neither of them is the region that one would get who forgets the padding.
    if abs(width - height) > 0.2 * max(width, height):
        unpadded = [CANVAS * box[0] / width, CANVAS * box[1] / height]
        unpadded += [CANVAS * box[2] / width, CANVAS * box[3] / height]
        wrong = teacher.region_features(pixels, Regions(torch.tensor([unpadded]), regions.views))[0]
        assert np.abs(_positions(wrong) - expected).max() > 2 * tolerance


@few
@given(pictures_with_regions())
def test_distillation_finds_no_difference_between_a_crop_and_the_same_region_of_the_features(picture):
    (width, height), box = picture
    pixels = _preprocess(_picture_of_positions(width, height), CANVAS) / 255
    regions = Regions(torch.tensor([to_canvas(box, width, height, CANVAS)]), torch.tensor([0]))
    encoder = LocalEncoder()
    teacher = Teacher(encoder, _distillation(crop=64))
    loss, _ = teacher.loss(encoder(pixels), pixels, regions)
    shifted = Regions(regions.boxes + PATCH / 2, regions.views)
    other = F.mse_loss(
        teacher.region_features(pixels, regions), teacher.region_features(pixels, shifted)
    )  # what half a patch makes out
    assert loss < 0.05 * other


@few
@given(pictures_with_regions())
def test_region_on_a_tile_shows_the_same_pixels_as_on_the_global_view(picture):
    (width, height), box = picture
    image = _picture_of_positions(width, height)
    views = cut_tiles(_preprocess(image, 2 * CANVAS)[0], _preprocess(image, CANVAS)[0])
    view, view_box = locate_view(to_canvas(box, width, height, CANVAS), CANVAS, tiles=4)
    cut = roi_align(views, torch.tensor([view_box]), torch.tensor([view]), (4, 4))
    expected = _expected([box[0] / width, box[1] / height, box[2] / width, box[3] / height], 4)
    assert np.abs(_positions(cut[0]) - expected).max() < 1 / 255


@repeatable
@given(images_with_boxes(sizes=st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_painted_region_lies_on_the_pasted_canvas_where_its_box_says(image):
    (width, height), box = image
    box = [math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])]
    assume(box[2] > box[0] and box[3] > box[1])
    picture = Image.new("L", (width, height), 0)
    picture.paste(255, tuple(box))
    dx, dy, side = pad_offsets(width, height)
    canvas = Image.new("L", (side, side), 0)
    canvas.paste(picture, (dx, dy))
    assert canvas.getbbox() == tuple(to_canvas(box, width, height, side))
