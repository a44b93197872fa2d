"""What a user would lose if a box were written, read or moved wrongly."""

from __future__ import annotations

import pytest
from PIL import Image, ImageOps

from granvit.boxes import (
    around,
    clip_box,
    contains,
    exif_to_display,
    format_box,
    from_cxcywh,
    from_padded_square,
    from_relative,
    from_xywh,
    iou,
    overhang,
    pad_offsets,
    parse_box,
    shift,
    to_canvas,
    to_cxcywh,
    to_xywh,
    widen,
)


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ([366, 627, 575, 873], "[0.366, 0.627, 0.575, 0.873]"),
        ([190, 756, 417, 888], "[0.19, 0.756, 0.417, 0.888]"),
    ],
)
def test_box_text_is_the_papers(box, text):
    assert format_box(box, 1000, 1000) == text
    assert format_box([box[0] * 0.64, box[1] * 0.48, box[2] * 0.64, box[3] * 0.48], 640, 480) == text


def test_box_text_has_no_trailing_zeros_and_no_sign():
    assert format_box([0, 0, 640, 480], 640, 480) == "[0, 0, 1, 1]"
    assert format_box([-3, 48, 700, 240], 640, 480) == "[0, 0.1, 1, 0.5]"
    assert format_box([0.0001, 0, 639.999, 480], 640, 480) == "[0, 0, 1, 1]"


def test_every_box_text_is_read_back_within_half_a_thousandth():
    width, height = 613, 1024
    for step in range(0, 600, 7):
        box = [step, step / 2, step + 13, step / 2 + 400.5]
        relative = parse_box(format_box(box, width, height))
        expected = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
        assert relative == pytest.approx(expected, abs=0.00051)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.1, 0.2, 0.3, 0.4",
        "[0.1, 0.2, 0.3]",
        "[0.1,0.2,0.3,0.4]",
        "[0.10, 0.2, 0.3, 0.4]",
        "[0.1234, 0.2, 0.3, 0.4]",
        "[0.1, 0.2, 1.3, 0.4]",
        "[-0.1, 0.2, 0.3, 0.4]",
        "[0.5, 0.2, 0.3, 0.4]",
        "the box is [0.1, 0.2, 0.3, 0.4]",
    ],
)
def test_text_that_is_not_our_box_format_is_refused(text):
    assert parse_box(text) is None


def test_box_text_may_be_surrounded_by_white_space():
    assert parse_box(" [0.1, 0.2, 0.3, 1]\n") == [0.1, 0.2, 0.3, 1.0]


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (512, 512), (333, 1000), (1001, 334)])
def test_box_survives_the_way_to_the_canvas_and_back(size):
    box, side = [10.5, 20.25, 300, 310.75], max(size)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    on_the_square = [value * side / 512 for value in to_canvas(box, *size, 512)]
    assert shift(on_the_square, left, top) == pytest.approx(box)


@pytest.mark.parametrize("size", [(60, 41), (41, 60), (50, 50)])
def test_box_on_the_canvas_covers_the_pixels_it_covered_on_the_image(size):
    box = (10, 5, 30, 25)
    image = Image.new("L", size, 0)
    image.paste(255, box)
    dx, dy, side = pad_offsets(*size)
    canvas = Image.new("L", (side, side), 0)
    canvas.paste(image, (dx, dy))
    assert canvas.getbbox() == tuple(to_canvas(box, *size, side))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_box_in_the_stored_frame_covers_the_same_pixels_after_exif_rotation(orientation):
    box = (10, 5, 30, 12)
    image = Image.new("L", (60, 41), 0)
    image.paste(255, box)
    image.getexif()[0x0112] = orientation
    shown = ImageOps.exif_transpose(image)
    assert shown.getbbox() == tuple(exif_to_display(box, 60, 41, orientation))


def test_iou():
    assert iou([0, 0, 10, 10], [0, 0, 10, 10]) == 1
    assert iou([0, 0, 10, 10], [5, 0, 15, 10]) == pytest.approx(1 / 3)
    assert iou([0, 0, 10, 10], [20, 0, 30, 10]) == 0
    assert iou([5, 5, 5, 5], [5, 5, 5, 5]) == 0


def test_iou_of_relative_boxes_that_overlap_in_part_or_only_across():
    assert iou([0.0, 0.0, 0.4, 0.5], [0.1, 0.3, 0.4, 0.9]) == pytest.approx(0.06 / (0.2 + 0.18 - 0.06))
    assert iou([0.0, 0.0, 0.4, 0.2], [0.0, 0.3, 0.4, 0.5]) == 0
    assert iou([0.0, 0.0, 0.2, 0.4], [0.3, 0.0, 0.5, 0.4]) == 0


def test_box_is_cut_at_the_image_border():
    assert clip_box([-5, 10, 700, 500], 640, 480) == [0, 10, 640, 480]


def test_box_in_cocos_form_and_back():
    assert from_xywh([10, 20, 30, 40]) == [10, 20, 40, 60]
    assert to_xywh([10, 20, 40, 60]) == [10, 20, 30, 40]


def test_box_in_yolos_form_and_back():
    assert from_cxcywh([50, 40, 20, 10]) == [40, 35, 60, 45]
    assert to_cxcywh([40, 35, 60, 45]) == [50, 40, 20, 10]


def test_box_of_the_padded_square_in_pixels_of_the_image():
    assert from_padded_square([0.25, 0.5, 0.75, 1.0], 800, 400) == [200, 200, 600, 600]  # padded by 200 above
    assert from_padded_square([0.25, 0.5, 0.75, 1.0], 400, 800) == [0, 400, 400, 800]


@pytest.mark.parametrize(
    "box, pixels",
    [
        ([0, 0, 30, 20], 0),
        ([-3, 0, 30, 20], 3),
        ([0, -4, 30, 20], 4),
        ([0, 0, 35, 20], 5),
        ([0, 0, 30, 26], 6),
        ([-3, -4, 35, 26], 6),
    ],
)
def test_a_box_reaches_beyond_the_image_by_its_worst_side(box, pixels):
    assert overhang(box, 30, 20) == pixels


def test_relative_box_is_of_width_across_and_of_height_down():
    assert from_relative([0.25, 0.5, 0.75, 1], 640, 480) == [160, 240, 480, 480]


def test_margin_is_a_share_of_the_boxs_own_sides():
    assert widen([10, 20, 30, 24], 0.5) == [0, 18, 40, 26]
    assert widen([10, 20, 30, 24], 0) == [10, 20, 30, 24]


def test_box_around_points_and_whether_one_lies_in_another():
    assert around([3, 9, 1, 5, 4, 7, 2, 6]) == [1, 5, 4, 9]
    assert contains([0, 0, 10, 10], [0, 2, 10, 8]) and contains([0, 0, 10, 10], [2, 0, 8, 10])
    for outside in ([-1, 2, 5, 8], [1, -1, 5, 8], [1, 2, 11, 8], [1, 2, 5, 11]):
        assert not contains([0, 0, 10, 10], outside)
