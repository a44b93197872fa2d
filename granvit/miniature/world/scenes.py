"""Natural images of the miniature: a few coloured objects on a photograph, with exact boxes and captions.

Objects lie on a 64 px grid (8 x 8 cells): with patches of 16 px at 128 px input an object covers whole
patches, without which small encoders on two cores do not learn shapes in minutes (docs/miniature.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw

from granvit.miniature.world.rendering import (
    BACKGROUNDS,
    CANVAS,
    CELL,
    add_noise,
    background,
    fits_split,
    rng_for,
)
from granvit.miniature.world.words import COLOURS, NUMBER_WORDS, PLACES, SHAPES, SIZES, TEXTURES

CELLS = CANVAS // CELL
STRIPE = 16  # px: 4 px at 128 px input
STRIPE_COLOUR = (245, 245, 245)


@dataclass(frozen=True)
class SceneObject:
    """One drawn object. ``box``: pixel xyxy on the 512 px canvas, exactly what is drawn."""

    shape: str
    colour: str
    texture: str
    size: str
    box: tuple[int, int, int, int]

    def caption(self) -> str:
        """The region caption: at most 10 words, as Sec. 3 asks."""
        return f"a {self.size} {self.texture} {self.colour} {self.shape}"

    @property
    def place(self) -> str:
        """Where the centre lies in a 3 x 3 division of the image, as ``top left``."""
        column, row = ((self.box[i] + self.box[i + 2]) * 3 // (2 * CANVAS) for i in (0, 1))
        return PLACES[3 * row + column]


@dataclass(frozen=True)
class Scene:
    """The truth of one natural image; pixels come from `render_scene`."""

    key: str
    objects: tuple[SceneObject, ...]
    background: str
    seed: int

    def caption(self) -> str:
        """The global caption: how many objects there are, then each with its place."""
        parts = [f"{thing.caption()} at the {thing.place}" for thing in self.objects]
        count = "is one object" if len(parts) == 1 else f"are {NUMBER_WORDS[len(parts)]} objects"
        return f"There {count}: {', '.join(parts)}."


def contents(objects: tuple[SceneObject, ...]) -> list[list]:
    """What makes two scenes the same for the train/benchmark split (`rendering.fits_split`)."""
    return sorted([o.shape, o.colour, o.texture, o.size, list(o.box)] for o in objects)


def _free_box(rng: np.random.Generator, side: int, taken: np.ndarray) -> tuple[int, int, int, int]:
    """A random free place for a square of ``side`` cells, marked as taken.

    There is one: an object blocks one corner of the grid at most, and three of them leave the fourth.
    """
    free = np.argwhere(~sliding_window_view(taken, (side, side)).any(axis=(2, 3)))
    y, x = free[int(rng.integers(len(free)))].tolist()
    taken[y : y + side, x : x + side] = True
    return (x * CELL, y * CELL, (x + side) * CELL, (y + side) * CELL)


def _random_objects(rng: np.random.Generator) -> tuple[SceneObject, ...]:
    taken = np.zeros((CELLS, CELLS), dtype=bool)
    objects: dict[tuple[str, ...], SceneObject] = {}
    wanted = int(rng.integers(2, 5))
    while len(objects) < wanted:
        looks = tuple(str(rng.choice(list(words))) for words in (SHAPES, COLOURS, TEXTURES, SIZES))
        if looks not in objects:  # a caption must name one object only, or Caption2Bbox has no answer
            objects[looks] = SceneObject(*looks, _free_box(rng, SIZES[looks[-1]], taken))
    # Reading order, so that the global caption is a function of the image.
    return tuple(sorted(objects.values(), key=lambda o: (o.box[1], o.box[0])))


def make_scene(namespace: str, index: int) -> Scene:
    """Scene ``index`` of ``namespace``. Benchmark scenes never equal a scene of any other namespace."""
    rng = rng_for("scene", namespace, index)
    objects = _random_objects(rng)
    while not fits_split(namespace, contents(objects)):
        objects = _random_objects(rng)
    return Scene(
        f"scene-{namespace}-{index:06d}", objects, str(rng.choice(BACKGROUNDS)), int(rng.integers(2**31))
    )


def _draw_mask(shape: str, side: int) -> Image.Image:
    """The object's silhouette (L mode) in a square of ``side`` px; it touches all four sides."""
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    last, third = side - 1, side // 3
    match shape:
        case "square":
            draw.rectangle((0, 0, last, last), fill=255)
        case "triangle":
            draw.polygon([(side // 2, 0), (last, last), (0, last)], fill=255)
        case "cross":
            draw.rectangle((third, 0, last - third, last), fill=255)
            draw.rectangle((0, third, last, last - third), fill=255)
        case "ring":
            draw.ellipse((0, 0, last, last), fill=255)
            draw.ellipse((third * 0.85, third * 0.85, last - third * 0.85, last - third * 0.85), fill=0)
        case "face":
            draw.ellipse((0, 0, last, last), fill=255)
    return mask


def _draw_face(tile: Image.Image) -> None:
    """Two eyes and a mouth: what makes testA of the miniature RefCOCO about faces."""
    draw, side = ImageDraw.Draw(tile), tile.width
    for x, y in ((side * 0.32, side * 0.36), (side * 0.68, side * 0.36)):
        for radius, colour in ((side * 0.1, (255, 255, 255)), (side * 0.05, (0, 0, 0))):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    draw.chord((side * 0.25, side * 0.45, side * 0.75, side * 0.85), 0, 180, fill=(255, 255, 255))


def _draw_object(image: Image.Image, thing: SceneObject) -> None:
    side = thing.box[2] - thing.box[0]
    tile = Image.new("RGB", (side, side), COLOURS[thing.colour])
    if thing.texture == "striped":
        draw = ImageDraw.Draw(tile)
        for y in range(STRIPE, side, 2 * STRIPE):
            draw.rectangle((0, y, side, y + STRIPE - 1), fill=STRIPE_COLOUR)
    if thing.shape == "face":
        _draw_face(tile)
    image.paste(tile, thing.box[:2], _draw_mask(thing.shape, side))


def render_scene(scene: Scene) -> Image.Image:
    """The 512 x 512 RGB picture of a scene; the same bytes for the same scene."""
    rng = np.random.default_rng(scene.seed)
    image = background(scene.background, rng)
    for thing in scene.objects:
        _draw_object(image, thing)
    return add_noise(image, rng)
