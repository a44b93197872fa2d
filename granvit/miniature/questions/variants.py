"""Images made from a scene or a document: labelled diagrams (AI2D), cropped words (OCRBench), edited twins
(MMVP, HallusionBench).

Each asks the split again, so that a variant made for the benchmarks is never one that training sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from granvit.miniature.questions.asking import Asked, among, pick
from granvit.miniature.questions.documents import random_words
from granvit.miniature.questions.scenes import VALUES, describe, naming
from granvit.miniature.questions.templates import DESCRIPTIONS, DOCUMENT_TEMPLATES, LABELS, SCENE_TEMPLATES
from granvit.miniature.world.documents import Document, Entry, Line, lines_of, make_document, render_document
from granvit.miniature.world.rendering import CANVAS, fits_split, font, rng_for
from granvit.miniature.world.scenes import CELL, Scene, SceneObject, contents, make_scene, render_scene

_DIAGRAM_OFFSET = 1_000_000  # diagrams are made from scenes that no scene source uses
_MARGIN = 24  # px around a cropped line
_CROPPED_KINDS = ("text", "receipt", "rich")


@dataclass(frozen=True)
class Diagram:
    """A scene whose objects carry numbers; ``labels`` in the order of its objects."""

    key: str
    scene: Scene
    labels: tuple[str, ...]


def make_diagram(namespace: str, index: int) -> Diagram:
    """Diagram ``index`` of ``namespace``, with labels in random order."""
    scene = make_scene(namespace, _DIAGRAM_OFFSET + index)
    order = rng_for("diagram", namespace, index).permutation(len(scene.objects))
    return Diagram(f"diagram-{namespace}-{index:06d}", scene, tuple(LABELS[int(i)] for i in order))


def render_diagram(diagram: Diagram) -> Image.Image:
    """The scene with a white disc and a number in the top left cell of each object."""
    image = render_scene(diagram.scene)
    draw = ImageDraw.Draw(image)
    for thing, label in zip(diagram.scene.objects, diagram.labels, strict=True):
        x, y = thing.box[:2]
        draw.ellipse((x, y, x + CELL - 1, y + CELL - 1), fill=(255, 255, 255), outline=(0, 0, 0), width=3)
        centre = (x + CELL // 2, y + CELL // 2)
        draw.text(centre, label, fill=(0, 0, 0), font=font("DejaVuSans-Bold", 52), anchor="mm")
    return image


def diagram_questions(diagram: Diagram, rng: np.random.Generator) -> Iterator[Asked]:
    """What an object with a label looks like, and which label an object has."""
    objects = diagram.scene.objects
    for thing, label in zip(objects, diagram.labels, strict=True):
        text = DESCRIPTIONS[1].format(thing="object", label=label)
        for attribute in ("colour", "shape", "texture", "size"):
            question, value = SCENE_TEMPLATES[attribute].format(thing=text), getattr(thing, attribute)
            yield among(f"labelled {attribute}", question, value, VALUES[attribute])
        text = describe(thing, pick(rng, naming(objects, thing, needs=frozenset({"shape"}))))
        yield among("label", SCENE_TEMPLATES["label"].format(thing=text), label, LABELS)


@dataclass(frozen=True)
class Crop:
    """One printed line cut from a document."""

    key: str
    document: Document
    line: Line


def make_crop(namespace: str, index: int) -> Crop:
    """Crop ``index`` of ``namespace``. A text in a font belongs to training or to the benchmarks, never to
    both.
    """
    rng = rng_for("crop", namespace, index)
    kind = _CROPPED_KINDS[index % len(_CROPPED_KINDS)]
    while True:
        document = make_document(namespace, int(rng.integers(2**40)), kind)
        lines = document.lines[1:] if kind == "receipt" else document.lines
        line = lines[int(rng.integers(len(lines)))]
        if fits_split(namespace, ["crop", line.text, document.font]):
            return Crop(f"crop-{namespace}-{index:06d}", document, line)


def render_crop(crop: Crop) -> Image.Image:
    """The line with some margin, enlarged to ``CANVAS`` px of width."""
    x1, y1, x2, y2 = crop.line.box
    box = (max(0, x1 - _MARGIN), max(0, y1 - _MARGIN), min(CANVAS, x2 + _MARGIN), min(CANVAS, y2 + _MARGIN))
    image = render_document(crop.document).crop(box)
    return image.resize((CANVAS, round(image.height * CANVAS / image.width)), Image.Resampling.BICUBIC)


def crop_questions(crop: Crop, rng: np.random.Generator) -> Iterator[Asked]:
    """What is written, and on receipts which number."""
    words = crop.line.text.split()
    wrong = [" ".join([*random_words(rng, 1, set(words)), *words[1:]]) for _ in range(3)]
    yield among("recognition", DOCUMENT_TEMPLATES["all"], crop.line.text, dict.fromkeys(wrong))
    if words[-1].isdigit():
        number = int(words[-1])
        wrong = [str(n) for n in range(max(1, number - 3), number + 4)]
        yield among("number", DOCUMENT_TEMPLATES["number"], words[-1], wrong)


Subject = Scene | Document | Diagram | Crop


def make_subject(kind: str, namespace: str, index: int) -> Subject:
    """Image ``index`` of ``namespace``: a ``scene``, a ``diagram``, a ``crop`` or a document of ``kind``."""
    makers = {"scene": make_scene, "diagram": make_diagram, "crop": make_crop}
    return makers[kind](namespace, index) if kind in makers else make_document(namespace, index, kind)


def render(subject: Subject) -> Image.Image:
    """The picture of a scene, a document, a diagram or a crop; the same bytes for the same one."""
    draw = {Scene: render_scene, Document: render_document, Diagram: render_diagram, Crop: render_crop}
    return draw[type(subject)](subject)


def twin_scene(split: str, scene: Scene, thing: SceneObject, attribute: str, value: str) -> Scene | None:
    """The same picture but for one attribute of one object; None where that twin is no image of ``split``."""
    changed = replace(thing, **{attribute: value})
    objects = tuple(changed if o is thing else o for o in scene.objects)
    if len({o.caption() for o in objects}) < len(objects) or not fits_split(split, contents(objects)):
        return None
    return replace(scene, key=f"{scene.key}-{attribute}-{value}", objects=objects)


def twin_document(split: str, document: Document) -> Document | None:
    """A chart or table with the values of its first two entries exchanged; None where it is no image of
    ``split``."""
    first, second, *rest = document.entries
    entries = (Entry(first.label, second.value), Entry(second.label, first.value), *rest)
    lines = lines_of(document.title, entries)
    fits = fits_split(split, [document.kind, *(line.text for line in lines)])
    return replace(document, key=f"{document.key}-exchanged", entries=entries, lines=lines) if fits else None
