"""Figures 6 and 7: samples of each source with their boxes and texts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.offsetbox import OffsetBox

from granvit.boxes import clip_box
from granvit.data.records.records import Record, readable_key
from granvit.progress import Progress
from granvit.reporting.data_samples import Shown, choose_samples, listed_regions
from granvit.reporting.drawing import GREY, INDENT, column, grid, numbered, paragraph
from granvit.reporting.pictures import Picture, decoded

_CELL = 216.0  # points
_PICTURE_HEIGHT = 250.0
_MARGIN = 0.03  # around the text of a page, as a share of its longer side
_MOSTLY_EMPTY = 0.6
_READABLE = 8.0  # points that a line of a page is high
_LISTED = {"natural": 8, "ocr": 12}


def samples_page(
    indexes: Sequence[str | Path], title: str, scale: str, log: str | Path | None = None
) -> tuple[Figure, list[str]]:
    """Figures 6 and 7: samples of each shard in ``indexes``, one shard a source, and the keys of the images
    shown; equal data give equal pages.

    The fewer sources, the more samples of each. Without sources the figure says so. Raises GranvitError for a
    shard that is missing or damaged.
    """
    number, columns = layout(len(indexes))
    progress = Progress(len(indexes), "drawing samples", "sources", log)
    cells, empty, keys = [], [], []
    for done, index in enumerate(map(Path, indexes), 1):
        shown = choose_samples(index, number)
        cells += [_cell(sample) for sample in shown]
        keys += [sample.record.key for sample in shown]
        if not shown:
            empty.append(index.parent.name)
        progress.update(done)
    columns = min(columns, max(len(cells), 2))
    width = columns * _CELL + (columns - 1) * 18
    notes = [
        "Boxes and texts that passed the filters, from the first shard of each source. Numbers tie a box "
        "to its text; thin boxes are not listed."
    ]
    if empty:
        notes.append(f"Without an image there: {', '.join(empty)}.")
    if not indexes:
        notes.append("This scale has no such source.")
    head = [paragraph(f"{title} ({scale} scale)", width, 2, size=13, weight="bold")]
    head += [paragraph(note, width, 4, size=8, colour=GREY) for note in notes]
    return grid(head, cells, columns, _CELL), keys


def layout(sources: int) -> tuple[int, int]:
    """(samples a source, columns): about a dozen cells, or one for each of many sources."""
    number = max(1, min(8, -(-12 // sources))) if sources else 1
    if number > 4:
        return number, number // 2
    return (number, number) if number > 2 else (number, 4 if sources * number <= 16 else 5)


def _cell(sample: Shown) -> OffsetBox:
    """A picture between what it is and its texts."""
    record = sample.record
    listed = listed_regions(record.regions, record.data_type, _LISTED.get(record.data_type, 8))
    window = _window(record)
    facts = [f"{record.width} × {record.height} px"]
    facts.append(counted(len(record.regions), "line" if record.data_type == "ocr" else "region"))
    if len(listed) < len(record.regions):
        facts.append(f"{len(listed)} listed")
    if window:
        facts.append("cut to its text")
    picture = Picture(decoded(sample.image, record.key), _CELL, _PICTURE_HEIGHT, window)
    picture.draw_boxes(record, listed)
    name = paragraph(record.source, _CELL, size=9, weight="bold")
    texts = (paragraph(record.regions[at].text or "(no text)", _CELL - INDENT, 2) for at in listed)
    key = paragraph(readable_key(record.key), _CELL, size=5.5, colour=GREY)
    blocks = [column([name, paragraph(", ".join(facts), _CELL, colour=GREY), key]), picture, *numbered(texts)]
    if record.caption:
        blocks.append(paragraph(f"Image: {record.caption}", _CELL, 4, colour=GREY))
    return column(blocks, 3)


def counted(number: int, name: str) -> str:
    """``1 box``, ``2 boxes``."""
    plural = name + ("es" if name.endswith("x") else "s")
    return f"{number:,} {name if number == 1 else plural}"


def _window(record: Record) -> tuple[int, int, int, int] | None:
    """The part of a page that holds its text, where lines would be small and much of the page is empty."""
    if record.data_type != "ocr" or not record.regions:
        return None
    scale = min(_CELL / record.width, _PICTURE_HEIGHT / record.height)
    if statistics.median(region.box[3] - region.box[1] for region in record.regions) * scale >= _READABLE:
        return None
    boxes = [clip_box(region.box, record.width, record.height) for region in record.regions]
    margin = _MARGIN * max(record.width, record.height)
    x1, y1 = (max(0, int(min(box[at] for box in boxes) - margin)) for at in (0, 1))
    x2 = min(record.width, int(max(box[2] for box in boxes) + margin))
    y2 = min(record.height, int(max(box[3] for box in boxes) + margin))
    few = (x2 - x1) * (y2 - y1) <= _MOSTLY_EMPTY * record.width * record.height
    return (x1, y1, x2, y2) if few and x2 > x1 and y2 > y1 else None
