"""Perceptual hashes: the same for what looks the same, nothing for what shows nothing."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from granvit.data.fingerprints import FEATURELESS, detail_hash, perceptual_hash


def picture(seed: int, size=(640, 480)) -> Image.Image:
    """Random coarse blocks, smoothed: features at every coarse frequency."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def distance(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def reencoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("seed", range(5))
def test_hash_is_the_one_that_imagehash_gives(seed):
    image = picture(seed)
    assert perceptual_hash(image) == str(imagehash.phash(image))
    assert len(perceptual_hash(image)) == 16
    assert len(detail_hash(image)) == 64


@pytest.mark.parametrize("seed", range(5))
def test_smaller_and_recompressed_copy_stays_near_and_another_image_does_not(seed):
    image = picture(seed)
    for copy in (image.resize((320, 240)), image.resize((512, 512)), reencoded(image, 30)):
        assert distance(perceptual_hash(copy), perceptual_hash(image)) <= 4
        assert distance(detail_hash(copy), detail_hash(image)) <= 32
    assert distance(perceptual_hash(picture(seed + 100)), perceptual_hash(image)) > 10


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (600, 500), "white"),
        Image.new("RGB", (50, 900), (12, 99, 3)),
        Image.linear_gradient("L"),
        Image.fromarray(np.random.default_rng(0).integers(254, 256, (500, 400), dtype=np.uint8)),
    ],
    ids=["white", "colour", "gradient", "scanned blank page"],
)
def test_image_that_shows_nothing_has_no_features(image):
    assert perceptual_hash(image) == FEATURELESS
    assert perceptual_hash(reencoded(image.convert("RGB"), 30)) == FEATURELESS
