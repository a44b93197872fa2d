"""Pixels for training are those for prediction, but for photographs that are decoded at a reduced size."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_models_packing import make_model

from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.models.encoders import Encoder
from granvit.training.images import ImageStore, decode_at_least

MEAN = [0.48145466, 0.4578275, 0.40821073]


def _photograph(width: int, height: int, **save) -> bytes:
    """Waves from coarse to fine, edges and some noise, as JPEG."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(columns / a) * np.cos(rows / b) for a, b in ((90, 60), (23, 31), (7, 9))]
    stripes = ((columns // 40 + rows // 25) % 2) * 2 - 1
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    values = np.stack([128 + 50 * wave + 30 * stripes + noise for wave in waves], -1)
    buffer = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90, **save)
    return buffer.getvalue()


def _preprocess(image: Image.Image, size: int) -> torch.Tensor:
    spec = SimpleNamespace(image_size=size, mean=MEAN)
    return Encoder.preprocess(SimpleNamespace(spec=spec), image)


def _expand2square(image: Image.Image, size: int) -> torch.Tensor:
    """LLaVA's way, word for word."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(round(255 * channel) for channel in MEAN))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    resized = square.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def _stored(data: bytes, size: int, tmp_path) -> torch.Tensor:
    model = SimpleNamespace(canvas_size=size, preprocess=lambda image: _preprocess(image, size))
    return _stored_by(model, data, tmp_path)


def _stored_by(model, data: bytes, tmp_path) -> torch.Tensor:
    """What ImageStore makes of the bytes."""
    (tmp_path / "shard").write_bytes(data)
    row = {"key": "a", "shard": str(tmp_path / "shard"), "offset": 0, "size": len(data)}
    return ImageStore(SimpleNamespace(path="mixture", row=lambda _: row), model, keep=False)[0]


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.int() - b.int()).abs().float()


SIZES = [
    (640, 480), (481, 640), (1600, 903), (700, 700), (333, 517), (512, 512), (512, 96), (639, 640),
    (640, 639),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [512, 336, 640, 1024])
def test_every_picture_has_the_bits_of_llavas_square(size, side):
    """Padding is put around the rows after they were resized, which is faster; no bit may tell."""
    image = decode_rgb(_photograph(*size))
    pixels = _preprocess(image, side)
    assert pixels.shape == (3, side, side) and pixels.dtype == torch.uint8 and pixels.is_contiguous()
    assert torch.equal(pixels, _expand2square(image, side))


@pytest.mark.parametrize("size", [(640, 480), (1100, 1600), (512, 218), (300, 400)])
def test_training_sees_the_pixels_that_prediction_sees(tmp_path, size):
    data = _photograph(*size)
    assert torch.equal(_stored(data, 512, tmp_path), _preprocess(decode_rgb(data), 512))


def test_tiled_images_are_the_pixels_that_prediction_sees(tmp_path):
    model, data = make_model(tmp_path, tiles=4), _photograph(90, 70)
    pixels = _stored_by(model, data, tmp_path)
    assert pixels.shape == (5, 3, 32, 32) and torch.equal(pixels, model.preprocess(decode_rgb(data)))


@pytest.mark.parametrize("size", [(2200, 1700), (1700, 4400)])
def test_reduced_decoding_of_scans_stays_within_two_levels_on_average(tmp_path, size):
    data = _photograph(*size)
    apart = _apart(_stored(data, 512, tmp_path), _preprocess(decode_rgb(data), 512))
    assert 0 < apart.mean() < 2 and torch.quantile(apart[:, ::2, ::2].flatten(), 0.999) <= 32


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(512, 512), (512, 218), (300, 400)])
def test_images_of_the_miniature_are_reduced_by_the_decoder_and_then_by_the_encoder(tmp_path, size, form):
    buffer = io.BytesIO()
    decode_rgb(_photograph(*size)).save(buffer, form)
    expected = _preprocess(decode_at_least(buffer.getvalue(), 2 * 96), 96)
    assert torch.equal(_stored(buffer.getvalue(), 96, tmp_path), expected)


@pytest.mark.parametrize("size", [(700, 500), (2400, 1600)])  # decoded in full, and reduced
def test_image_that_exif_turns_is_turned_before_it_is_padded(tmp_path, size):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    turned, plain = (_stored(_photograph(*size, **extra), 512, tmp_path) for extra in ({"exif": exif}, {}))
    assert _apart(turned, plain.rot90(-1, (1, 2))).mean() < 1


def test_cut_off_photograph_is_a_sample_to_skip(tmp_path):
    for size in ((700, 500), (2400, 1600)):
        with pytest.raises(UnreadableImage, match="corrupt_image"):
            _stored(_photograph(*size)[:5000], 512, tmp_path)
