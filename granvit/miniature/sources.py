"""The miniature's raw sources, written as a user's own folders would look (docs/data.md), so that ingest is
one code path.

`render_source` draws a source by name. What a source holds is a function of its name and of the image's
number only: a larger source begins with the images of a smaller one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from granvit.boxes import area, to_xywh
from granvit.errors import GranvitError
from granvit.files import whole_folder
from granvit.miniature.questions import pairs as questions
from granvit.miniature.questions.variants import Subject, make_subject, render
from granvit.miniature.world.documents import make_document
from granvit.miniature.world.rendering import CANVAS
from granvit.miniature.world.scenes import make_scene
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
    if name not in _WRITERS:
        raise GranvitError(f"miniature source: {name!r} is unknown; choose one of {', '.join(_WRITERS)}")
    if count < 1:
        raise GranvitError(f"miniature source {name}: count is {count}; it must be at least 1")
    with whole_folder(out_dir) as folder:
        (folder / "images").mkdir()
        _WRITERS[name](folder, count)
        shutil.rmtree(out_dir, ignore_errors=True)


def _save(subject: Subject, root: Path) -> str:
    """Draw an image as JPEG; returns its file name."""
    render(subject).save(root / "images" / f"{subject.key}.jpg", quality=JPEG_QUALITY)
    return f"{subject.key}.jpg"


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_scenes(root: Path, count: int) -> None:
    """COCO's format: boxes and their captions are given, as UMG-41M's are (Sec. 3)."""
    images, annotations = [], []
    for index in range(count):
        scene = make_scene("pretrain", index)
        file_name = _save(scene, root)
        image_id = index + 1
        size = {"width": CANVAS, "height": CANVAS}
        images.append({"id": image_id, "file_name": file_name, **size, "caption": scene.caption()})
        for thing in scene.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": SHAPES.index(thing.shape) + 1,
                    "bbox": to_xywh(thing.box),
                    "area": area(thing.box),
                    "iscrowd": 0,
                    "caption": thing.caption(),
                }  # fmt: skip
            )
    categories = [{"id": number, "name": shape} for number, shape in enumerate(SHAPES, 1)]
    _write_json(
        root / "instances.json", {"images": images, "annotations": annotations, "categories": categories}
    )


def _documents_writer(*kinds: str) -> Callable[[Path, int], None]:
    def write(root: Path, count: int) -> None:
        """Images only: boxes and text come from OCR. ``truth.json`` is for evaluating the annotator, never
        for training.
        """
        truth = {}
        for index in range(count):
            document = make_document("pretrain", index, kinds[index % len(kinds)])
            truth[_save(document, root)] = [{"text": line.text, "box": line.box} for line in document.lines]
        _write_json(root / "truth.json", truth)

    return write


def _conversations_writer(
    namespace: str, cycle: tuple[str, ...], ask: Callable[[Subject, int], list[questions.QA]]
) -> Callable[[Path, int], None]:
    def write(root: Path, count: int) -> None:
        """LLaVA's format: all questions of an image as the turns of one conversation."""
        entries = []
        for index in range(count):
            subject, turns = make_subject(cycle[index % len(cycle)], namespace, index), []
            for number, (question, answer) in enumerate(ask(subject, SEED)):
                turns.append({"from": "human", "value": question if number else f"<image>\n{question}"})
                turns.append({"from": "gpt", "value": answer})
            entries.append({"id": subject.key, "image": _save(subject, root), "conversations": turns})
        _write_json(root / "conversations.json", entries)

    return write


_WRITERS: dict[str, Callable[[Path, int], None]] = {
    "Scenes": _write_scenes,
    "TextPages": _documents_writer("text"),
    "ChartsTables": _documents_writer("chart", "table"),
    "Receipts": _documents_writer("receipt"),
    "RichText": _documents_writer("rich"),
    "Captions": _conversations_writer(
        "projector", _SCENES_AND_DOCUMENTS, lambda subject, seed: [questions.caption_qa(subject)]
    ),
    "Instructions": _conversations_writer("instruct", _INSTRUCTION_CYCLE, questions.instruction_qa),
    "Continued": _conversations_writer("continued", _SCENES_AND_DOCUMENTS, questions.continued_qa),
}
