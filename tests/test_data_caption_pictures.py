"""What a captioner is shown: the right pixels, the right way up, and a box in the model's own frame."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from data_worlds import encode
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from granvit.data.annotators.caption_pictures import (
    MAX_PIXELS,
    MOST_ASPECT,
    Picture,
    model_size,
    sent_size,
    stated_box,
    too_long,
    window_of,
)  # fmt: skip
from granvit.data.records.records import Record
from granvit.data.records.shards import Sample

sides = st.integers(1, 6000)


def picture(data: bytes, width: int, height: int) -> Picture:
    return Picture(Sample(Record("S__1", "S", "natural", width, height), data, "x"))


def received(uri: str) -> tuple[str, bytes, Image.Image]:
    """Media type, bytes and pixels of a data: address, read as plainly as a server might."""
    head, _, text = uri.partition(";base64,")
    data = base64.b64decode(text)
    return head.removeprefix("data:"), data, Image.open(io.BytesIO(data)).convert("RGB")


def scene(size=(200, 120)) -> Image.Image:
    """Grey, with a red box at (20, 30)-(80, 100)."""
    image = Image.new("RGB", size, (128, 128, 128))
    ImageDraw.Draw(image).rectangle([20, 30, 79, 99], fill=(255, 0, 0))
    return image


@profile(derandomize=True, max_examples=300, deadline=None)
@given(sides, sides)
def test_boxes_are_stated_in_the_frame_of_qwens_own_processor(width, height):
    if too_long(width, height):
        assert max(width, height) / min(width, height) > MOST_ASPECT
        return
    sent = sent_size(width, height)
    for limit in (MAX_PIXELS, 12845056):  # a server's own, and what the checkpoint says
        resized = smart_resize(sent[1], sent[0], factor=28, min_pixels=56 * 56, max_pixels=limit)
        assert resized == model_size(width, height)[::-1]


@profile(derandomize=True, max_examples=300, deadline=None)
@given(sides, sides, st.tuples(*[st.floats(0, 1)] * 4))
def test_what_is_cut_out_holds_the_box_and_is_taken_by_the_model(width, height, corners):
    if too_long(width, height):
        return
    x1, x2 = sorted((corners[0] * width, corners[2] * width))
    y1, y2 = sorted((corners[1] * height, corners[3] * height))
    left, top, right, bottom = window_of([x1, y1, x2, y2], width, height)
    assert 0 <= left <= x1 and x2 <= right <= width and 0 <= top <= y1 and y2 <= bottom <= height
    assert right - left >= min(56, width) and bottom - top >= min(56, height)
    assert not too_long(right - left, bottom - top)


def test_a_box_of_some_size_is_cut_out_without_its_surroundings():
    shown = np.asarray(picture(encode(scene(), "PNG"), 200, 120).view(window_of([20, 30, 80, 100], 200, 120)))
    assert shown.shape == (70, 60, 3) and (shown == (255, 0, 0)).all()


def test_the_box_follows_an_image_that_is_sent_smaller():
    box, frame = stated_box([1000, 500, 2000, 1500], 4000, 3000)
    assert frame[0] * frame[1] <= MAX_PIXELS
    assert box == pytest.approx([frame[0] / 4, frame[1] / 6, frame[0] / 2, frame[1] / 2], abs=0.5)
    image = picture(encode(Image.new("RGB", (4000, 3000)), "JPEG"), 4000, 3000)
    assert received(image.data_uri(None))[2].size == sent_size(4000, 3000) != (4000, 3000)
    assert image.view((1000, 500, 1200, 700)).size == (
        200,
        200,
    )  # cut from the original, not from the smaller one


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_bytes_that_every_server_reads_are_sent_as_they_came(form):
    data = encode(scene(), form)
    media_type, sent, _ = received(picture(data, 200, 120).data_uri(None))
    assert sent == data and media_type == f"image/{form.lower()}"


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    return encode(scene().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def seen_through() -> bytes:
    image = Image.new("RGBA", (200, 120), (0, 0, 0, 0))  # black under full transparency: shown white
    image.paste((255, 0, 0, 255), (20, 30, 80, 100))
    return encode(image, "PNG")


ODD = {
    "turned by EXIF": turned(),
    "transparent": seen_through(),
    "CMYK": encode(scene().convert("CMYK"), "JPEG", quality=95),
    "palette": encode(scene().convert("P"), "PNG"),
    "GIF": encode(scene(), "GIF"),
    "BMP": encode(scene(), "BMP"),
    "animated": encode(
        scene(), "WEBP", save_all=True, append_images=[Image.new("RGB", (200, 120))], lossless=True
    ),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_what_servers_show_differently_is_sent_as_it_is_shown_here(data):
    media_type, sent, image = received(picture(data, 200, 120).data_uri(None))
    assert media_type == "image/png" and sent != data and image.size == (200, 120)
    red = np.asarray(image, dtype=int)[35:95, 25:75].reshape(-1, 3).mean(0)
    assert red == pytest.approx([255, 0, 0], abs=12)


def test_grey_of_16_bits_keeps_its_shades():
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 257)[None].repeat(64, 0))
    _, _, image = received(picture(encode(ramp, "PNG"), 256, 64).data_uri(None))
    assert np.asarray(image)[0, :, 0].tolist() == list(range(256))
