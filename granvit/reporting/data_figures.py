"""Figures 6 and 7: samples of each source with their boxes and texts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from granvit.boxes import clip_box
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Record, Region
from granvit.errors import GranvitError
from granvit.progress import Progress
from granvit.reporting.data_samples import Shown, choose_samples, listed_regions
from granvit.reporting.drawing import (
    GREY,
    PALE,
    TAG,
    Block,
    Page,
    View,
    grid,
    paragraph,
    picture,
    stack,
    tag_size,
    tagged,
)
from granvit.reporting.lettering import Rect, place_labels

# Dark enough for white digits, and told apart on photographs
COLOURS = (
    "#c8102e", "#1f5fa8", "#1b7f4b", "#9a5b00", "#7b2fa0", "#00707c", "#b0186b", "#4b4f00", "#3340a8",
    "#5d3a2e", "#a33c00", "#3d5a6c",
)  # fmt: skip
_CELL = 216.0  # points
_PICTURE_HEIGHT = 250.0
_MARGIN = 0.03  # around the text of a page, as a share of its longer side
_MOSTLY_EMPTY = 0.6
_READABLE = 8.0  # points that a line of a page is high
_LISTED = {"natural": 8, "ocr": 12}


def draw_samples(
    indexes: Sequence[str | Path],
    title: str,
    scale: str,
    out_png: str | Path,
    out_pdf: str | Path,
    log: str | Path | None = None,
) -> None:
    """Figures 6 and 7: samples of each shard in ``indexes``, one shard a source; equal data give equal bytes.

    The fewer sources, the more samples of each. Without sources the figure says so.
    """
    samples_page(indexes, title, scale, log).save(out_png, out_pdf)


def samples_page(
    indexes: Sequence[str | Path], title: str, scale: str, log: str | Path | None = None
) -> Page:
    """The page that ``draw_samples`` saves."""
    number, columns = layout(len(indexes))
    progress = Progress(len(indexes), "drawing samples", "sources", log)
    cells, empty = [], []
    for done, index in enumerate(map(Path, indexes), 1):
        shown = choose_samples(index, number)
        cells += [_cell(sample) for sample in shown]
        if not shown:
            empty.append(index.parent.name)
        progress.update(done)
    columns = min(columns, max(len(cells), 2))
    width = columns * _CELL + (columns - 1) * 18
    head = [paragraph(f"{title} ({scale} scale)", width, 2, size=13, weight="bold")]
    head.append(
        paragraph(
            "Boxes and texts that passed the filters, from the first shard of each source. Numbers tie a box "
            "to its text; thin boxes are not listed.", width, 3, size=8, colour=GREY,
        )
    )  # fmt: skip
    if empty:
        head.append(paragraph(f"Without an image there: {', '.join(empty)}.", width, 4, size=8, colour=GREY))
    if not indexes:
        head.append(paragraph("This scale has no such source.", width, size=8))
    return grid(head, cells, columns, _CELL)


def layout(sources: int) -> tuple[int, int]:
    """(samples a source, columns): about a dozen cells, or one for each of many sources."""
    number = max(1, min(8, -(-12 // sources))) if sources else 1
    if number > 4:
        return number, number // 2
    return (number, number) if number > 2 else (number, 4 if sources * number <= 16 else 5)


def _cell(sample: Shown) -> Block:
    record = sample.record
    listed = listed_regions(record.regions, record.data_type, _LISTED.get(record.data_type, 8))
    window = _window(record)
    name = "line" if record.data_type == "ocr" else "region"
    facts = f"{record.width} × {record.height} px, {counted(len(record.regions), name)}"
    if len(listed) < len(record.regions):
        facts += f", {len(listed)} listed"
    if window:
        facts += ", cut to its text"

    def overlay(page: Page, view: View) -> None:
        numbered_boxes(page, view, record, listed)

    blocks = [
        paragraph(record.source, _CELL, size=9, weight="bold"),
        paragraph(facts, _CELL, colour=GREY),
        Block(2),
        picture(decoded(sample.image, record.key), _CELL, _PICTURE_HEIGHT, overlay, window),
        Block(4),
        *texts_of(record.regions, listed, _CELL),
    ]
    if record.caption:
        blocks += [Block(2), paragraph(f"Image: {record.caption}", _CELL, 4, colour=GREY)]
    return stack(blocks)


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


def decoded(image: bytes, key: str) -> Image.Image:
    """The image as shown (EXIF applied); one that is packed but cannot be decoded is an error."""
    try:
        return decode_rgb(image)
    except (OSError, ValueError) as error:
        raise GranvitError(
            f"{key}: its image cannot be decoded ({error}); the packed shard is damaged: delete it and make "
            "it again"
        ) from error


def numbered_boxes(page: Page, view: View, record: Record, listed: Sequence[int]) -> None:
    """All boxes, thin; those in ``listed`` strong, in a colour of their own, numbered from 1."""
    labels = [(str(number + 1), colour_of(number)) for number in range(len(listed))]
    for at, region in enumerate(record.regions):
        if at in listed:
            outline(page, view.rect(region.box), colour_of(listed.index(at)), record.data_type)
        else:
            page.frame(view.rect(region.box), PALE, 0.4)
    label_boxes(page, view, record, listed, labels)


def outline(page: Page, rect: Rect, colour: str, data_type: str, style: str = "-") -> None:
    """A listed box: light around it on photographs, thin around a line of text, which it must not hide."""
    if data_type == "ocr":
        page.frame(rect, "white", 1.4)
        page.frame(rect, colour, 0.8, style, order=4)
    else:
        page.frame(rect, "white", 2.2)
        page.frame(rect, colour, 1.2, style, order=4)


def label_boxes(
    page: Page, view: View, record: Record, listed: Sequence[int], labels: Sequence[tuple[str, str]]
) -> None:
    """Tags (text, colour) for the listed boxes; none hides another, and beside a line of text if they can."""
    targets = [view.rect(record.regions[at].box) for at in listed]
    sizes = [tag_size(text, TAG) for text, _ in labels]
    lines = [view.rect(region.box) for region in record.regions] if record.data_type == "ocr" else []
    for (text, colour), place in zip(labels, place_labels(targets, sizes, view.bounds, lines), strict=True):
        if place:
            page.tag(*place, text, TAG, colour)


def texts_of(regions: Sequence[Region], listed: Sequence[int], width: float) -> list[Block]:
    """The texts of the listed regions, each behind its number."""
    return [
        tagged(str(number + 1), colour_of(number), regions[at].text or "(no text)", width)
        for number, at in enumerate(listed)
    ]


def colour_of(number: int) -> str:
    """The colour of the ``number``-th box of a picture, counted from 0."""
    return COLOURS[number % len(COLOURS)]
