"""Instruction data of the miniature: questions and answers about one image, in the forms of the benchmarks.

The analogue of Open-LLaVA-NeXT 1M (Sec. 5.1): one question in ten is about a box, as there; the others are
captions, attributes, counting, yes/no, relations and choices; of a document reading, looking up and
comparing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION, bbox2caption_question, caption2bbox_question
from granvit.miniature.questions.asking import Asked, in_a_form, pick, pick_balanced
from granvit.miniature.questions.documents import DOCUMENT_FAMILIES, random_line
from granvit.miniature.questions.scenes import EXPRESSION_KINDS, SCENE_FAMILIES, box_text, expression
from granvit.miniature.questions.variants import Crop, Diagram, Subject, crop_questions, diagram_questions
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import rng_for
from granvit.miniature.world.scenes import Scene

QA = tuple[str, str]

# How often a scene is asked a family of questions, relative to the others.
_SCENE_WEIGHTS = {
    "colour": 2, "shape": 2, "texture": 2, "size": 1, "place": 2, "identity": 2, "count": 3, "exists": 2,
    "attribute": 2,
    "relation": 2, "same": 1, "box": 2, "magnet": 2, "kind": 0.5,
}  # fmt: skip
_DOCUMENT_WEIGHTS = {
    "line": 4, "lines": 1, "all": 2, "word": 1.5, "title": 1, "value": 4, "label": 3, "higher": 2,
    "difference": 1, "kind": 0.5
}  # fmt: skip


def caption_qa(image: Scene | Document) -> QA:
    """The global caption question (Sec. 3) with the caption of a scene or the transcription of a document."""
    return GLOBAL_CAPTION_QUESTION, image.caption()


def instruction_qa(subject: Subject, seed: int) -> list[QA]:
    """What the instruction data asks of an image.

    A scene: six questions (seven with a caption, one in four), one about a box. A document: four to six, in
    half of them one about the box of a line, the rest reading. A diagram: up to four about its labels. A
    crop: what the line says, and its number if it has one.
    """
    rng = rng_for("questions", subject.key, seed)
    if isinstance(subject, Diagram):
        picked = (pick_balanced(list(diagram_questions(subject, rng)), rng) for _ in range(4))
        return _distinct(in_a_form(asked, rng) for asked in picked)
    if isinstance(subject, Crop):
        questions = list(crop_questions(subject, rng))  # all of them before a form draws from the generator
        return [in_a_form(asked, rng) for asked in questions]
    pairs = [caption_qa(subject)] if rng.random() < 0.25 else []
    if isinstance(subject, Document):
        return pairs + _line_boxes(subject, rng, int(rng.integers(2))) + _plain(subject, rng, 4)
    if rng.random() < 0.2:
        pairs.append(_describe_box(subject, rng))
    else:
        pairs.append(_locate(subject, pick(rng, EXPRESSION_KINDS), rng))
    return pairs + _plain(subject, rng, 5)


def continued_qa(subject: Scene | Document, seed: int) -> list[QA]:
    """Continued pretraining (Sec. A.8): the caption, two boxes to describe (of a document: two lines by box),
    two plain questions.
    """
    rng = rng_for("continued", subject.key, seed)
    if isinstance(subject, Scene):
        regions, plain = [_describe_box(subject, rng) for _ in range(2)], _plain(subject, rng, 2)
    else:
        plain, regions = _plain(subject, rng, 2), _line_boxes(subject, rng, 2)
    return _distinct([caption_qa(subject), *regions, *plain])


def _plain(subject: Scene | Document, rng: np.random.Generator, count: int) -> list[QA]:
    """``count`` questions of different families, each in a form, or as many as the image offers."""
    scene = isinstance(subject, Scene)
    families, weights = (SCENE_FAMILIES, _SCENE_WEIGHTS) if scene else (DOCUMENT_FAMILIES, _DOCUMENT_WEIGHTS)
    names = list(families)
    shares = np.array([weights[name] for name in names], dtype=float)
    chosen: list[Asked] = []
    for i in rng.choice(len(names), size=len(names), replace=False, p=shares / shares.sum()):
        offered = list(families[names[int(i)]](subject.objects if scene else subject, rng))
        if offered:
            chosen.append(pick_balanced(offered, rng))
        if len(chosen) == count:
            break
    return [in_a_form(asked, rng) for asked in chosen]


def _locate(scene: Scene, kind: str, rng: np.random.Generator) -> QA:
    """An expression and its box; the full caption where no expression of that kind fits one object only."""
    thing = pick(rng, scene.objects)
    text = expression(scene.objects, thing, kind, rng) or thing.caption()
    return caption2bbox_question(text), box_text(thing.box)


def _describe_box(scene: Scene, rng: np.random.Generator) -> QA:
    thing = pick(rng, scene.objects)
    return bbox2caption_question(box_text(thing.box)), thing.caption()


def _line_boxes(document: Document, rng: np.random.Generator, count: int) -> list[QA]:
    """Text to box or box to text, for ``count`` random lines; none for charts and tables."""
    pairs = []
    for _ in range(count):
        line = random_line(document, rng)
        if line is not None:
            box = box_text(line.box)
            located = (caption2bbox_question(line.text), box)
            pairs.append(located if rng.random() < 0.5 else (bbox2caption_question(box), line.text))
    return _distinct(pairs)


def _distinct(pairs: Iterable[QA]) -> list[QA]:
    """The pairs without repetitions, in order."""
    return list(dict.fromkeys(pairs))
