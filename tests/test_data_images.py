"""Image bytes: whatever the file, it is shown right or refused with the cause."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from data_worlds import encode
from dirty_corpus import MARK, MAX_PIXELS, SIZE, dirty_images, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat
from PIL.PngImagePlugin import PngInfo

from granvit.data.records.images import UnreadableImage, as_shown, decode_rgb, inspect_image

# pytest sets aside the filter that the package installs; test_data_dirty.py shows it at work.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

IMAGES = dirty_images()


def _differ(a: Image.Image, b: Image.Image) -> float:
    """Mean difference of two pictures' colours, 0-255."""
    return max(ImageStat.Stat(ImageChops.difference(a, b)).mean)


@pytest.mark.parametrize("name", [name for name, image in IMAGES.items() if image.picture])
def test_odd_image_is_shown_right(name):
    dirty = IMAGES[name]
    facts, shown = inspect_image(dirty.data, MAX_PIXELS)
    assert (facts.width, facts.height) == shown.size == SIZE
    assert _differ(shown, dirty.picture) < 4
    assert _differ(shown.crop(MARK), dirty.picture.crop(MARK)) < 15  # JPEG and WebP blur colours at its edge
    assert facts.several == dirty.several
    assert decode_rgb(dirty.data).tobytes() == shown.tobytes()


@pytest.mark.parametrize(
    "name", [name for name, image in IMAGES.items() if image.cause and image.data is not None]
)
def test_image_that_cannot_be_shown_says_why(name):
    with pytest.raises(UnreadableImage, match=f"^{IMAGES[name].cause}$"):
        inspect_image(IMAGES[name].data, MAX_PIXELS)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("percent", [25, 50, 75, 90, 95])
def test_download_that_stopped_is_refused_where_the_file_goes_on_in_zeros(form, percent):
    data = encode(Image.effect_noise((400, 300), 80), form)
    begun = data[: len(data) * percent // 100]
    for zeros in (len(data) - len(begun), 100_000):
        with pytest.raises(UnreadableImage, match="corrupt_image"):
            inspect_image(begun + bytes(zeros))


def test_pixels_that_do_not_unpack_are_refused_though_their_checksum_is_right():
    png = bytearray(encode(picture(), "PNG"))
    begin, end = png.index(b"IDAT"), png.index(b"IEND") - 8
    png[begin + 40 : begin + 60] = b"\xff" * 20
    png[end : end + 4] = struct.pack(">I", zlib.crc32(png[begin:end]))
    with pytest.raises(UnreadableImage, match="corrupt_image"):
        inspect_image(bytes(png))


def test_blank_page_is_shown_though_its_pixels_are_stored_as_zeros():
    blank = encode(Image.new("L", (2000, 2000), "white"), "JPEG", optimize=True)
    assert bytes(4096) in blank
    assert inspect_image(blank)[1].getextrema() == ((255, 255),) * 3


def test_text_that_unpacks_to_more_than_64_mebibytes_is_refused():
    text = PngInfo()
    text.add_text("bomb", " " * ((64 << 20) + 1), zip=True)
    with pytest.raises(UnreadableImage, match="corrupt_image"):
        inspect_image(encode(picture(), "PNG", pnginfo=text))


@pytest.mark.parametrize("pillows_limit", [10, None, 10**12])
def test_configured_limit_of_pixels_decides_whatever_pillows_is(monkeypatch, pillows_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    pixels = SIZE[0] * SIZE[1]
    for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        data = encode(picture(), form)
        assert inspect_image(data, pixels)[1].size == SIZE
        with pytest.raises(UnreadableImage, match="too_large"):
            inspect_image(data, pixels - 1)
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_pillows_limit_is_back_after_threads_have_decoded_together():
    before = Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=lambda: [decode_rgb(IMAGES["plain.jpg"].data) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before is not None
    assert before == Image.MAX_IMAGE_PIXELS


@settings(derandomize=True, deadline=None, max_examples=1500, database=None)
@given(
    st.sampled_from([image.data for image in IMAGES.values() if image.picture]),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 255)), min_size=1, max_size=8),
    st.integers(1, 100_000),
)
def test_image_damaged_anywhere_is_shown_or_refused_and_nothing_else_happens(data, flips, length):
    damaged = bytearray(data)
    for position, bits in flips:
        damaged[position % len(data)] ^= bits
    try:
        facts, shown = inspect_image(bytes(damaged[:length]), MAX_PIXELS)
    except UnreadableImage as refused:
        assert str(refused) in ("not_an_image", "corrupt_image", "too_large", "unsupported_pixels")
    else:
        assert (facts.width, facts.height, "RGB") == (*shown.size, shown.mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_over_white_is_the_same_strip_by_strip(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (700, 31, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    image = (
        image.quantize(50) if mode == "P" else image.convert("LA").convert(mode) if mode != "RGBA" else image
    )
    whole = image.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    assert as_shown(image).tobytes() == expected.tobytes()


def test_a_transparent_giant_needs_little_more_than_itself_and_what_is_shown():
    code = (
        "import io, resource; from PIL import Image; from granvit.data.records.images import inspect_image\n"
        "buffer = io.BytesIO(); Image.new('RGBA', (4000, 4000), (9, 9, 9, 99)).save(buffer, 'PNG')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "inspect_image(buffer.getvalue())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000  # KiB: beyond one copy of 62,500, which the image itself took before


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_middle_was_zeroed_lacks_restart_markers(progressive):
    noise = Image.effect_noise((400, 300), 80)
    data = encode(noise, "JPEG", restart_marker_blocks=3, progressive=progressive)
    assert data.count(b"\xff\xd5") and inspect_image(data)[1].size == (400, 300)
    middle = len(data) // 2
    zeroed = data[: middle - 300] + bytes(600) + data[middle + 300 :]
    with pytest.raises(UnreadableImage, match="corrupt_image"):
        inspect_image(zeroed)
