"""The miniature's raw sources, written as a user's own folders would look (docs/data.md), so that ingest is
one code path.

`render_source` draws a source by name. What a source holds is a function of its name and of the image's
number only: a larger source begins with the images of a smaller one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from granvit.boxes import area, to_xywh
from granvit.errors import GranvitError
from granvit.files import whole_folder
from granvit.miniature.questions import pairs as questions
from granvit.miniature.questions.scenes import region_caption
from granvit.miniature.questions.variants import Subject, make_subject, render
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import CANVAS, rng_for
from granvit.miniature.world.scenes import Scene
from granvit.miniature.world.words import SHAPES

JPEG_QUALITY = 90
SEED = 0  # of the questions; images have their own

# An instruction source repeats these, one an image: half scenes, then documents, diagrams and crops.
_SCENES_AND_DOCUMENTS = (
    "scene", "text", "scene", "chart", "scene", "receipt", "scene", "table", "scene", "rich",
)  # fmt: skip
_INSTRUCTION_CYCLE = (
    "scene", "text", "scene", "chart", "scene", "receipt", "scene", "diagram", "scene", "rich",
    "scene", "crop", "scene", "table", "scene", "text", "scene", "diagram", "rich", "crop",
)  # fmt: skip


def render_source(name: str, count: int, out_dir: str | Path) -> None:
    """Write ``count`` images of source ``name`` and their annotation file to ``out_dir``: the same bytes on
    every run.

    The folder appears when it is complete; one that is already there is replaced. Raises GranvitError for an
    unknown name or a count below 1.
    """
    subjects, said = source_content(name, count)
    annotation_file = _SOURCES[name][2]
    with whole_folder(out_dir) as folder:
        (folder / "images").mkdir()
        for subject in subjects:
            render(subject).save(folder / "images" / _file_name(subject), quality=JPEG_QUALITY)
        text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
        (folder / annotation_file).write_text(text, encoding="utf-8")
        shutil.rmtree(out_dir, ignore_errors=True)


def source_content(name: str, count: int) -> tuple[list[Subject], dict | list]:
    """What the first ``count`` images of source ``name`` show, and what its annotation file says of them.

    Raises GranvitError as ``render_source`` does.
    """
    if name not in _SOURCES:
        raise GranvitError(f"miniature source: {name!r} is unknown; choose one of {', '.join(_SOURCES)}")
    if count < 1:
        raise GranvitError(f"miniature source {name}: count is {count}; it must be at least 1")
    namespace, kinds, _, annotate = _SOURCES[name]
    subjects = [make_subject(kinds[i % len(kinds)], namespace, i) for i in range(count)]
    return subjects, annotate(subjects)


def _file_name(subject: Subject) -> str:
    return f"{subject.key}.jpg"


def _coco(scenes: Sequence[Scene]) -> dict:
    """COCO's format: boxes and their captions are given, as UMG-41M's are (Sec. 3), the captions in varied
    forms."""
    images, annotations = [], []
    for image_id, scene in enumerate(scenes, 1):
        size = {"width": CANVAS, "height": CANVAS}
        images.append({"id": image_id, "file_name": _file_name(scene), **size, "caption": scene.caption()})
        rng = rng_for("region captions", scene.key, SEED)
        for thing in scene.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": SHAPES.index(thing.shape) + 1,
                    "bbox": to_xywh(thing.box),
                    "area": area(thing.box),
                    "iscrowd": 0,
                    "caption": region_caption(scene.objects, thing, rng),
                }
            )
    categories = [{"id": number, "name": shape} for number, shape in enumerate(SHAPES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _truth(documents: Sequence[Document]) -> dict:
    """What the images say, to evaluate the annotator, never for training: boxes and text come from OCR."""
    return {
        _file_name(document): [{"text": line.text, "box": line.box} for line in document.lines]
        for document in documents
    }


def _conversations(subjects: Sequence[Subject], ask: Callable[[Subject, int], list[questions.QA]]) -> list:
    """LLaVA's format: all questions of an image as the turns of one conversation."""
    entries = []
    for subject in subjects:
        turns = []
        for number, (question, answer) in enumerate(ask(subject, SEED)):
            turns.append({"from": "human", "value": question if number else f"<image>\n{question}"})
            turns.append({"from": "gpt", "value": answer})
        entries.append({"id": subject.key, "image": _file_name(subject), "conversations": turns})
    return entries


def _talk(namespace: str, kinds: tuple[str, ...], ask: Callable[[Subject, int], list[questions.QA]]) -> tuple:
    return namespace, kinds, "conversations.json", partial(_conversations, ask=ask)


# Namespace, kinds of images in turn, annotation file and what is in it.
_SOURCES: dict[str, tuple[str, tuple[str, ...], str, Callable[[list], object]]] = {
    "Scenes": ("pretrain", ("scene",), "instances.json", _coco),
    "TextPages": ("pretrain", ("text",), "truth.json", _truth),
    "ChartsTables": ("pretrain", ("chart", "table"), "truth.json", _truth),
    "Receipts": ("pretrain", ("receipt",), "truth.json", _truth),
    "RichText": ("pretrain", ("rich",), "truth.json", _truth),
    "Captions": _talk("projector", _SCENES_AND_DOCUMENTS, lambda image, seed: [questions.caption_qa(image)]),
    "Instructions": _talk("instruct", _INSTRUCTION_CYCLE, questions.instruction_qa),
    "Continued": _talk("continued", _SCENES_AND_DOCUMENTS, questions.continued_qa),
}
