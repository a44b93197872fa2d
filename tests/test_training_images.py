"""Pixels for training: how far the fast way may be from Pillow's, and where it must not be at all."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.models.encoders import Encoder
from granvit.training.images import PILLOW_RESIZES, ImageStore, decode_at_least, fit_canvas

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


def _stored(data: bytes, size: int, tmp_path, tiles: int = 0) -> torch.Tensor:
    """What ImageStore makes of the bytes."""
    (tmp_path / "shard").write_bytes(data)
    row = {"key": "a", "shard": str(tmp_path / "shard"), "offset": 0, "size": len(data)}
    model = SimpleNamespace(
        tiles=tiles,
        canvas_size=size,
        encoder=SimpleNamespace(spec=SimpleNamespace(image_size=size, mean=MEAN)),
        preprocess=lambda image: _preprocess(image, size),
    )
    return ImageStore(SimpleNamespace(path="mixture", row=lambda _: row), model, keep=False)[0]


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.int() - b.int()).abs().float()


@pytest.mark.parametrize("size", [(640, 480), (481, 640), (1600, 903), (700, 700), (333, 517), (512, 512)])
@pytest.mark.parametrize("side", [512, 336])
def test_fast_resizing_is_pillows_but_for_rounding(size, side):
    image = decode_rgb(_photograph(*size))
    apart = _apart(fit_canvas(image, side, MEAN), _preprocess(image, side))
    assert apart.max() <= 2 and (apart > 0).float().mean() < 0.02


@pytest.mark.parametrize("size", [(640, 480), (1100, 1600)])
def test_photographs_up_to_four_canvases_differ_by_rounding_only(tmp_path, size):
    data = _photograph(*size)
    assert _apart(_stored(data, 512, tmp_path), _preprocess(decode_rgb(data), 512)).max() <= 2


@pytest.mark.parametrize("size", [(2200, 1700), (1700, 4400)])
def test_reduced_decoding_of_scans_stays_within_two_levels_on_average(tmp_path, size):
    data = _photograph(*size)
    apart = _apart(_stored(data, 512, tmp_path), _preprocess(decode_rgb(data), 512))
    assert 0 < apart.mean() < 2 and torch.quantile(apart[:, ::2, ::2].flatten(), 0.999) <= 32


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(512, 512), (512, 218), (300, 400)])
def test_images_of_the_miniatures_size_have_the_bits_of_the_encoders_own_preprocessing(tmp_path, size, form):
    buffer = io.BytesIO()
    decode_rgb(_photograph(*size)).save(buffer, form)
    assert max(size) <= PILLOW_RESIZES
    expected = _preprocess(decode_at_least(buffer.getvalue(), 2 * 96), 96)
    assert torch.equal(_stored(buffer.getvalue(), 96, tmp_path), expected)


def test_tiled_images_go_through_the_models_own_preprocessing(tmp_path):
    data = _photograph(900, 700)
    assert torch.equal(_stored(data, 512, tmp_path, tiles=4), _preprocess(decode_rgb(data), 512))


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
