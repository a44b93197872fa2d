"""Pixels of the miniature world: photographs as backgrounds, fonts, seeded noise. Nothing here knows the
truth of an image."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageFont

CANVAS = 512  # px; above the 448 px rule of Sec. 3, so that the paper's filters apply unchanged
CELL = 64  # px: what one patch of the stand-ins sees (16 px at 128 px input)
BASELINE = 50  # px below the top of a cell

# Photographs that scikit-image and scikit-learn carry in their wheels.
_PHOTOGRAPHS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "brick": ("skimage", "data/brick.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg"),
    "moon": ("skimage", "data/moon.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
BACKGROUNDS = tuple(sorted(_PHOTOGRAPHS))
_SPLITS = {0: "benchmark", 1: "dev"}  # by the hash of a content, modulo eight
FONTS = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")


def content_hash(*parts: object) -> int:
    """A 64-bit number from the JSON of ``parts``: the same on every machine and in every process."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def rng_for(*parts: object) -> np.random.Generator:
    """A random generator that depends on ``parts`` only."""
    return np.random.default_rng(content_hash(*parts))


def split_of(content: object) -> str:
    """The split that an image of this content belongs to: ``benchmark``, ``dev`` (one in eight each) or
    ``train``.

    Every maker of images asks before it accepts one, so no image of one split can equal one of another.
    """
    return _SPLITS.get(content_hash("split", content) % 8, "train")


def fits_split(namespace: str, content: object) -> bool:
    """Whether an image of this content belongs to the split that ``namespace`` draws from. Two namespaces are
    splits of their own, ``benchmark`` and ``dev``; all others train."""
    return split_of(content) == (namespace if namespace in _SPLITS.values() else "train")


@cache
def _photograph(name: str) -> Image.Image:
    """The photograph, softened to half contrast: drawn objects must stay the subject at 128 px."""
    package, relative = _PHOTOGRAPHS[name]
    path = Path(find_spec(package).origin).parent / relative
    photo = Image.open(path).convert("RGB")
    scale = 1.25 * CANVAS / min(photo.size)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)
    photo = photo.filter(ImageFilter.GaussianBlur(3))
    pixels = np.asarray(photo, dtype=np.float32)
    pixels = 0.45 * pixels + 0.55 * (0.35 * pixels.mean(axis=(0, 1)) + 0.65 * 165)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def background(name: str, rng: np.random.Generator) -> Image.Image:
    """A ``CANVAS`` px square cut from a photograph at a random place, mirrored half of the time."""
    photo = _photograph(name)
    x, y = (int(rng.integers(0, side - CANVAS + 1)) for side in photo.size)
    crop = photo.crop((x, y, x + CANVAS, y + CANVAS))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that matplotlib carries; ``size`` in pixels."""
    path = Path(find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size)


def place(column: int, row: int) -> tuple[int, int]:
    """Left end of the baseline of a word in a cell of the grid, in pixels."""
    return (column * CELL + 3, row * CELL + BASELINE)


def ink_box(word: str, column: int, row: int, name: str, size: int) -> tuple[float, float, float, float]:
    """The pixel box xyxy of the ink of a word that begins in a cell of the grid."""
    x1, y1, x2, y2 = font(name, size).getbbox(word, anchor="ls")
    left, base = place(column, row)
    return (left + x1, base + y1, left + x2, base + y2)


@cache
def _noise_field() -> np.ndarray:
    """Sensor-like noise (standard deviation 4 grey levels), larger than an image: cutting a piece is
    faster than drawing one."""
    return np.random.default_rng(0).normal(0, 4, (2 * CANVAS, 2 * CANVAS, 1)).round().astype(np.int16)


def add_noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image with a random piece of the noise field, one value for the three channels."""
    x, y = (int(rng.integers(0, 2 * CANVAS - side + 1)) for side in image.size)
    pixels = np.asarray(image, dtype=np.int16) + _noise_field()[y : y + image.height, x : x + image.width]
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
