"""What the images of the miniature's pretraining sources show, drawn up again from the seed, to measure the
annotators (granvit.reporting.annotation_audit). Nothing that trains reads it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from granvit.boxes import from_xywh
from granvit.data.records.records import Record
from granvit.data.sources.truth import TrueRegion, Truth, TruthOf
from granvit.miniature.sources import coco, file_name, subjects_of
from granvit.miniature.world import plots
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import ink_box
from granvit.miniature.world.scenes import Scene


def rendered_truth(source: str, count: int) -> TruthOf:
    """The truth of each of the first ``count`` images of a rendered source, by their files.

    Scenes have their objects with their region captions, and a caption; documents have their printed strings,
    boxes around the ink, a line's words as its parts. Raises GranvitError for an unknown source.
    """
    subjects = subjects_of(source, count)
    known = _scenes([one for one in subjects if isinstance(one, Scene)])
    known |= {_file(one): _document(one) for one in subjects if isinstance(one, Document)}

    def truth_of(record: Record) -> Truth | None:
        return known.get(record.provenance["file"])

    return truth_of


def _file(subject: Scene | Document) -> str:
    return f"images/{file_name(subject)}"


def _scenes(scenes: Sequence[Scene]) -> dict[str, Truth]:
    said = coco(scenes)  # what the source itself says: its captions are what was drawn
    regions = {
        image: tuple(TrueRegion(tuple(from_xywh(one["bbox"])), one["caption"]) for one in annotations)
        for image, annotations in groupby(said["annotations"], key=lambda one: one["image_id"])
    }
    return {
        f"images/{image['file_name']}": Truth(regions[image["id"]], image["caption"])
        for image in said["images"]
    }


def _document(document: Document) -> Truth:
    name = document.font
    if document.kind in ("chart", "table"):
        printed = plots.places(document.kind, document.title, document.entries)
        return Truth(
            tuple(
                TrueRegion(ink_box(text, column, row, name, plots.TYPE_SIZE), text)
                for text, column, row in printed
            )
        )
    regions = []
    for line in document.lines:
        words = zip(line.text.split(), line.columns, strict=True)
        boxes = ((word, ink_box(word, at, line.row, name, document.font_size)) for word, at in words)
        regions.append(TrueRegion(line.box, line.text, tuple(TrueRegion(box, word) for word, box in boxes)))
    return Truth(tuple(regions))
