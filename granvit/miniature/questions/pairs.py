"""Instruction data of the miniature: questions and answers about one image, in the forms of the benchmarks.

The analogue of Open-LLaVA-NeXT 1M (Sec. 5.1): about half of what is asked of a scene is grounding, the rest
is captions, attributes, counting, yes/no, relations and choices; of a document it is reading, looking up and
comparing.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from granvit.data.mixtures.prompts import (
    GLOBAL_CAPTION_QUESTION,
    bbox2caption_question,
    caption2bbox_question,
)
from granvit.miniature.questions.asking import Asked, in_a_form, pick, pick_balanced
from granvit.miniature.questions.documents import DOCUMENT_FAMILIES, random_line
from granvit.miniature.questions.scenes import EXPRESSION_KINDS, SCENE_FAMILIES, box_text, expression
from granvit.miniature.questions.templates import TEMPLATE_CHUNKS
from granvit.miniature.questions.variants import Crop, Diagram, crop_questions, diagram_questions
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import rng_for
from granvit.miniature.world.scenes import Scene

__all__ = [
    "TEMPLATE_CHUNKS", "caption_qa", "continued_qa_for_document", "continued_qa_for_scene", "qa_for_crop",
    "qa_for_diagram",
    "qa_for_document", "qa_for_scene",
]  # fmt: skip

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


def qa_for_scene(scene: Scene, seed: int) -> list[QA]:
    """Six questions (seven with a caption, one scene in four) about a scene: three are about boxes."""
    rng = rng_for("questions", scene.key, seed)
    pairs = [caption_qa(scene)] if rng.random() < 0.25 else []
    kinds = [EXPRESSION_KINDS[int(i)] for i in rng.permutation(len(EXPRESSION_KINDS))]
    pairs += [
        _describe_box(scene, rng) if rng.random() < 0.2 else _locate(scene, kind, rng) for kind in kinds
    ]
    return pairs + [
        in_a_form(asked, rng) for asked in _families(SCENE_FAMILIES, _SCENE_WEIGHTS, scene.objects, rng, 3)
    ]


def qa_for_document(document: Document, seed: int) -> list[QA]:
    """Four to six questions about a document: at most one about the box of a line, the rest reading."""
    rng = rng_for("questions", document.key, seed)
    pairs = [caption_qa(document)] if rng.random() < 0.25 else []
    pairs += _line_boxes(document, rng, 1)
    return pairs + [
        in_a_form(asked, rng) for asked in _families(DOCUMENT_FAMILIES, _DOCUMENT_WEIGHTS, document, rng, 4)
    ]


def qa_for_diagram(diagram: Diagram, seed: int) -> list[QA]:
    """Four questions about the labels of a diagram."""
    rng = rng_for("questions", diagram.key, seed)
    return _distinct(in_a_form(pick_balanced(diagram_questions(diagram, rng), rng), rng) for _ in range(4))


def qa_for_crop(crop: Crop, seed: int) -> list[QA]:
    """What a cropped line says, and its number if it has one: one or two questions."""
    rng = rng_for("questions", crop.key, seed)
    return [in_a_form(asked, rng) for asked in crop_questions(crop, rng)]


def continued_qa_for_scene(scene: Scene, seed: int) -> list[QA]:
    """Continued pretraining (Sec. A.8): the caption, two boxes to describe and two plain questions."""
    rng = rng_for("continued", scene.key, seed)
    regions = [_describe_box(scene, rng) for _ in range(2)]
    plain = [
        in_a_form(asked, rng) for asked in _families(SCENE_FAMILIES, _SCENE_WEIGHTS, scene.objects, rng, 2)
    ]
    return _distinct([caption_qa(scene), *regions, *plain])


def continued_qa_for_document(document: Document, seed: int) -> list[QA]:
    """Continued pretraining on a document: the transcription, two lines by box, two plain questions."""
    rng = rng_for("continued", document.key, seed)
    plain = [
        in_a_form(asked, rng) for asked in _families(DOCUMENT_FAMILIES, _DOCUMENT_WEIGHTS, document, rng, 2)
    ]
    return _distinct([caption_qa(document), *_line_boxes(document, rng, 2), *plain])


def _families(
    families: dict, weights: dict[str, float], image: object, rng: np.random.Generator, count: int
) -> list[Asked]:
    """``count`` questions of different families, or as many as the image offers."""
    names = list(families)
    shares = np.array([weights[name] for name in names], dtype=float)
    chosen: list[Asked] = []
    for i in rng.choice(len(names), size=len(names), replace=False, p=shares / shares.sum()):
        offered = families[names[int(i)]](image, rng)
        if offered:
            chosen.append(pick_balanced(offered, rng))
        if len(chosen) == count:
            break
    return chosen


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
