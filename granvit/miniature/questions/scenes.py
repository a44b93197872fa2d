"""Questions about scenes: attributes, counting, existence, relations, places, and expressions that refer to
objects.

Every question has one answer in the image: an object is named by attributes that no other object of the scene
shares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, permutations

import numpy as np

from granvit.boxes import format_box, iou
from granvit.miniature.questions import templates
from granvit.miniature.questions.asking import Asked, among, pick, yes_no
from granvit.miniature.questions.templates import SCENE_TEMPLATES
from granvit.miniature.world.rendering import CANVAS
from granvit.miniature.world.scenes import CELL, SceneObject
from granvit.miniature.world.words import COLOURS, PLACES, SHAPES, SIZES, TEXTURES

# What an object is named by: attributes of `SceneObject`, with their words.
VALUES = {
    "size": tuple(SIZES),
    "texture": TEXTURES,
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "place": PLACES,
}
EXPRESSION_KINDS = ("location", "attributes", "sentence")  # RefCOCO, RefCOCO+, RefCOCOg
_SUBSETS = [frozenset(names) for count in range(1, 6) for names in combinations(VALUES, count)]

Objects = Sequence[SceneObject]


def describe(thing: SceneObject, attributes: frozenset[str]) -> str:
    """The object in words, by ``attributes`` only: ``striped red face``, ``large object at the top left``."""
    words = [getattr(thing, name) for name in ("size", "texture", "colour") if name in attributes]
    text = " ".join([*words, thing.shape if "shape" in attributes else "object"])
    if "place" in attributes:
        return templates.DESCRIPTIONS[0].format(thing=text, place=thing.place)
    return text


def naming(
    objects: Objects, thing: SceneObject, without: str = "", needs: frozenset[str] = frozenset()
) -> list:
    """The shortest sets of attributes that single ``thing`` out, and those one attribute longer.

    ``without``: the attribute that must not be named (it is what the question asks); ``needs``: those that
    must be.
    """
    shared = [
        frozenset(n for n in VALUES if getattr(other, n) == getattr(thing, n))
        for other in objects
        if other is not thing
    ]
    allowed = [names for names in _SUBSETS if needs <= names and without not in names]
    fitting = [names for names in allowed if not any(names <= common for common in shared)]
    shortest = min((len(names) for names in fitting), default=0)
    return [names for names in fitting if len(names) <= shortest + 1]


def name(objects: Objects, thing: SceneObject, rng: np.random.Generator, without: str = "") -> str | None:
    """A description of ``thing`` that fits no other object; None where ``without`` leaves none."""
    choices = naming(objects, thing, without)
    with_shape = [names for names in choices if "shape" in names]  # people name things first
    choices = with_shape if with_shape and rng.random() < 0.75 else choices
    return describe(thing, pick(rng, choices)) if choices else None


def expression(objects: Objects, thing: SceneObject, kind: str, rng: np.random.Generator) -> str | None:
    """A referring expression: ``location`` (RefCOCO), ``attributes`` (RefCOCO+: no location word),
    ``sentence`` (RefCOCOg).

    None where the objects allow none of that kind.
    """
    if kind == "sentence":
        other = pick(rng, [o for o in objects if o is not thing])
        # Objects do not overlap, so at least one relation holds.
        word = pick(rng, [word for word in templates.SENTENCES if holds(word, thing, other)])
        return templates.SENTENCES[word].format(thing=thing.caption(), other=other.caption())
    needs = frozenset({"shape", "place"}) if kind == "location" else frozenset({"shape"})
    choices = naming(objects, thing, "" if kind == "location" else "place", needs)
    return describe(thing, pick(rng, choices)) if choices else None


def region_caption(objects: Objects, thing: SceneObject, rng: np.random.Generator) -> str:
    """A caption of a region as annotators vary it: all five words, one in four, or these with the place, one
    in four; else no more than singles ``thing`` out."""
    draw = rng.random()
    if draw < 0.25:
        return thing.caption()
    if draw < 0.5:
        return templates.DESCRIPTIONS[0].format(thing=thing.caption(), place=thing.place)
    return expression(objects, thing, "attributes", rng)


def region_captions(objects: Objects, thing: SceneObject) -> set[str]:
    """All that `region_caption` may say of ``thing``."""
    full = thing.caption()
    named = naming(objects, thing, "place", frozenset({"shape"}))
    placed = templates.DESCRIPTIONS[0].format(thing=full, place=thing.place)
    return {full, placed, *(describe(thing, names) for names in named)}


def holds(relation: str, thing: SceneObject, other: SceneObject) -> bool:
    """Whether ``thing`` lies left, right, above or below ``other`` with no overlap along that axis."""
    axis = 0 if relation in ("left", "right") else 1
    first, second = (thing, other) if relation in ("left", "above") else (other, thing)
    return first.box[axis + 2] <= second.box[axis]


def _named(
    objects: Objects, rng: np.random.Generator, attributes: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """An attribute, an object's name without it and its value, wherever there is such a name."""
    for thing in objects:
        for attribute in attributes:
            text = name(objects, thing, rng, without=attribute)
            if text:
                yield attribute, text, getattr(thing, attribute)


def attribute_questions(objects: Objects, rng: np.random.Generator, asked_for: str) -> Iterator[Asked]:
    """What colour, shape, texture, size or place an object has."""
    for attribute, text, value in _named(objects, rng, [asked_for]):
        yield among(attribute, SCENE_TEMPLATES[attribute].format(thing=text), value, VALUES[attribute])


def identity_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """What lies at a place; offered instead: the scene's other objects and look-alikes."""
    for thing in objects:
        if sum(o.place == thing.place for o in objects) == 1:
            wrong = [o.caption() for o in objects if o is not thing]
            for attribute in ("colour", "shape", "texture"):
                values = [value for value in VALUES[attribute] if value != getattr(thing, attribute)]
                wrong.append(replace(thing, **{attribute: pick(rng, values)}).caption())
            question = SCENE_TEMPLATES["identity"].format(thing=thing.place)
            yield among("identity", question, thing.caption(), dict.fromkeys(wrong))


def count_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """How many objects there are with one attribute, or at all: zero to four."""
    numbers = {"objects": len(objects)}
    for attribute in ("size", "texture", "colour", "shape"):
        for value in VALUES[attribute]:
            plural = value + ("es" if value.endswith("s") else "s")
            text = plural if attribute == "shape" else f"{value} objects"
            numbers[text] = sum(getattr(thing, attribute) == value for thing in objects)
    for text, number in numbers.items():
        yield among("count", SCENE_TEMPLATES["count"].format(thing=text), str(number), "01234")


def exists_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """Whether some red face is there. Absent ones are made of words that fit the objects present."""
    for attribute in ("colour", "texture", "size"):
        present = {(getattr(o, attribute), o.shape) for o in objects}
        pairs = {(value, o.shape) for value in VALUES[attribute] for o in objects}
        pairs |= {(getattr(o, attribute), shape) for o in objects for shape in SHAPES}
        for pair in sorted(pairs):
            question = SCENE_TEMPLATES["exists"].format(thing=" ".join(pair))
            yield yes_no("exists", question, pair in present)


def check_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """Whether a named object has an attribute."""
    for attribute, text, value in _named(objects, rng, ("colour", "texture", "size")):
        wrong = pick(rng, [other for other in VALUES[attribute] if other != value])
        for said in (value, wrong):
            question = SCENE_TEMPLATES["attribute"].format(thing=text, value=said)
            yield yes_no("attribute", question, said == value)


def relation_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """Whether one object lies left, right, above or below another; asked where it is one or the opposite."""
    for thing, other in permutations(objects, 2):
        texts = [name(objects, o, rng, without="place") for o in (thing, other)]
        for relation in templates.RELATIONS:
            truth = holds(relation, thing, other)
            if all(texts) and (truth or holds(relation, other, thing)):
                question = SCENE_TEMPLATES[relation].format(thing=texts[0], other=texts[1])
                yield yes_no("relation", question, truth)


def same_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """Whether two objects agree in an attribute."""
    for thing, other in combinations(objects, 2):
        for attribute in ("colour", "shape", "texture", "size"):
            texts = [name(objects, o, rng, without=attribute) for o in (thing, other)]
            if all(texts):
                question = SCENE_TEMPLATES["same"].format(thing=texts[0], other=texts[1], value=attribute)
                yield yes_no("same", question, getattr(thing, attribute) == getattr(other, attribute))


def box_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """Which of two boxes holds an object; the wrong one is another object's or a displaced one (IoU below
    0.5).
    """
    for thing in objects:
        displaced = _displaced(thing.box, rng)
        wrong = pick(rng, [o.box for o in objects if o is not thing] + [displaced])
        question = SCENE_TEMPLATES["box"].format(thing=name(objects, thing, rng))
        yield Asked("box", question, box_text(thing.box), (box_text(wrong),))


def _displaced(box: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    side = box[2] - box[0]
    starts = range(0, CANVAS - side + 1, CELL)
    moved = [(x, y, x + side, y + side) for x in starts for y in starts]
    return pick(rng, [other for other in moved if iou(other, box) < 0.5])


def box_text(box: Sequence[float]) -> str:
    """Box text of the paper's prompts for a box on the 512 px canvas."""
    return format_box(box, CANVAS, CANVAS)


def magnet_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """Questions that need the hint: it says which object is a magnet (the miniature's ScienceQA)."""
    for attribute, text, value in _named(objects, rng, ("colour", "shape", "place")):
        hint = templates.MAGNET_HINT.format(thing=text)
        yield among("magnet", SCENE_TEMPLATES[f"magnet {attribute}"], value, VALUES[attribute], hint)


def kind_questions(objects: Objects, rng: np.random.Generator) -> Iterator[Asked]:
    """That the image is a photo and no document."""
    kinds = ["photo", *templates.DOCUMENT_NOUNS.values()]
    yield among("kind", templates.DOCUMENT_TEMPLATES["kind"], "photo", kinds)


SCENE_FAMILIES: dict[str, Callable[[Objects, np.random.Generator], Iterator[Asked]]] = {
    **{attribute: partial(attribute_questions, asked_for=attribute) for attribute in VALUES},
    "identity": identity_questions,
    "count": count_questions,
    "exists": exists_questions,
    "attribute": check_questions,
    "relation": relation_questions,
    "same": same_questions,
    "box": box_questions,
    "magnet": magnet_questions,
    "kind": kind_questions,
}
