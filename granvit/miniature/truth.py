"""What the images of the miniature's pretraining sources show, drawn up again from the seed, to measure the
annotators (granvit.reporting.annotation_audit). Nothing that trains reads it."""

from __future__ import annotations

from itertools import groupby

from granvit.boxes import from_xywh
from granvit.data.records.records import Record
from granvit.data.sources.truth import TrueRegion, Truth, TruthOf
from granvit.miniature.sources import source_content
from granvit.miniature.world import plots
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import ink_box


def rendered_truth(source: str, count: int) -> TruthOf:
    """The truth of each of the first ``count`` images of a rendered source, by their files.

    Scenes have their objects with their region captions, and a caption; documents have their printed strings,
    boxes around the ink, a line's words as its parts. Raises GranvitError for an unknown source.
    """
    subjects, said = source_content(source, count)
    if all(isinstance(one, Document) for one in subjects):
        known = {f"images/{file}": _document(one) for file, one in zip(said, subjects, strict=True)}
    else:
        known = _scenes(said)

    def truth_of(record: Record) -> Truth | None:
        return known.get(record.provenance["file"])

    return truth_of


def _scenes(said: dict) -> dict[str, Truth]:
    """From a COCO file: its captions and boxes are what was drawn."""
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
