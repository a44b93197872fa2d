"""Perceptual hashes: the same for what looks the same, nothing for what shows nothing."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from data_worlds import blocks_picture, encode
from PIL import Image

from granvit.data.records.fingerprints import FEATURELESS, detail_hash, perceptual_hash


def distance(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def reencoded(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality))).convert("RGB")


@pytest.mark.parametrize("seed", range(5))
def test_hash_is_the_one_that_imagehash_gives(seed):
    image = blocks_picture(seed)
    assert perceptual_hash(image) == str(imagehash.phash(image))
    assert len(perceptual_hash(image)) == 16
    assert len(detail_hash(image)) == 64


@pytest.mark.parametrize("seed", range(5))
def test_smaller_and_recompressed_copy_stays_near_and_another_image_does_not(seed):
    image = blocks_picture(seed)
    for copy in (image.resize((320, 240)), image.resize((512, 512)), reencoded(image, 30)):
        assert distance(perceptual_hash(copy), perceptual_hash(image)) <= 4
        assert distance(detail_hash(copy), detail_hash(image)) <= 32
    assert distance(perceptual_hash(blocks_picture(seed + 100)), perceptual_hash(image)) > 10


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
