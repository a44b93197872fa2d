"""OCR images of the miniature: text pages, charts, tables, receipts and signs on photographs, with their
exact text.

Words begin at the left edge of a 64 px cell and stand on a common baseline in it, so that a small encoder
meets the same piece of a word in the same place of a patch; without that no reading was learned in minutes
(docs/miniature.md).

The truth is for evaluation and instruction data; pretraining sees only what PaddleOCR reads on the pixels
(Sec. 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from granvit.miniature.world import plots
from granvit.miniature.world.rendering import (
    BACKGROUNDS,
    CANVAS,
    CELL,
    FONTS,
    add_noise,
    background,
    fits_split,
    font,
    rng_for,
)
from granvit.miniature.world.words import DOCUMENT_KINDS, MAX_VALUE, WORDS

BASELINE = 50  # px below the top of a cell
SIGN_COLOURS = ((250, 250, 245), (255, 214, 0), (20, 60, 140), (170, 20, 30), (15, 90, 50))


@dataclass(frozen=True)
class Line:
    """One line of printed text: the pixel box xyxy of its ink, the grid column where each word begins, and
    its row.

    Charts and tables have no boxes: matplotlib draws them (`plots.places` says in which cells).
    """

    text: str
    box: tuple[int, int, int, int] | None
    columns: tuple[int, ...] = ()
    row: int = 0


@dataclass(frozen=True)
class Entry:
    """A bar of a chart, a row of a table or an item of a receipt."""

    label: str
    value: int


@dataclass(frozen=True)
class Document:
    """The truth of one OCR image. ``total`` is printed on receipts only."""

    key: str
    kind: str
    lines: tuple[Line, ...]
    entries: tuple[Entry, ...]
    title: str | None
    total: int | None
    background: str | None
    font: str
    font_size: int
    seed: int
    width: int = CANVAS
    height: int = CANVAS

    def caption(self) -> str:
        """The text on the image in reading order, after the kind: ``a receipt that says tea 4, total 4.``"""
        noun = {"text": "page", "rich": "sign"}.get(self.kind, self.kind)
        return f"a {noun} that says {', '.join(line.text for line in self.lines)}."


def _words(rng: np.random.Generator, count: int) -> list[str]:
    return [str(word) for word in rng.choice(WORDS, size=count, replace=False)]


def _place(column: int, row: int) -> tuple[int, int]:
    """Left end of the baseline of a word in a cell of the grid, in pixels."""
    return (column * CELL + 3, row * CELL + BASELINE)


def _line(words: list[str], columns: list[int], row: int, name: str, size: int) -> Line:
    """A line whose words begin at the given columns, with the box around all their ink."""
    boxes = [font(name, size).getbbox(word, anchor="ls") for word in words]
    lefts = [_place(column, row)[0] for column in columns]
    x1 = min(left + box[0] for left, box in zip(lefts, boxes, strict=True))
    x2 = max(left + box[2] for left, box in zip(lefts, boxes, strict=True))
    y = _place(0, row)[1]
    box = (
        int(x1),
        int(y + min(b[1] for b in boxes)),
        int(np.ceil(x2)),
        int(np.ceil(y + max(b[3] for b in boxes))),
    )
    return Line(" ".join(words), box, tuple(columns), row)


def _page_lines(rng: np.random.Generator, name: str, size: int) -> list[Line]:
    words, lines, row = _words(rng, 10), [], int(rng.integers(0, 2))
    for _ in range(int(rng.integers(3, 6))):
        left, count = int(rng.integers(0, 3)), int(rng.integers(1, 3))
        taken, words = words[:count], words[count:]
        lines.append(_line(taken, [left + 3 * i for i in range(count)], row, name, size))
        row += int(rng.integers(1, 3)) if row < 4 else 1
        if row > 7:
            break
    return lines


def _receipt_lines(entries: tuple[Entry, ...], title: str, total: int, name: str, size: int) -> list[Line]:
    lines = [_line([title], [3], 0, name, size)]
    rows = [(entry.label, entry.value) for entry in entries] + [("total", total)]
    return lines + [
        _line([label, str(value)], [1, 5], 2 + i, name, size) for i, (label, value) in enumerate(rows)
    ]


def _sign_lines(rng: np.random.Generator, name: str, size: int) -> list[Line]:
    words = _words(rng, int(rng.integers(2, 4)))
    rows = sorted(int(row) for row in rng.choice([0, 2, 4, 6], size=len(words), replace=False))
    return [
        _line([word], [int(rng.integers(0, 6))], row, name, size)
        for word, row in zip(words, rows, strict=True)
    ]


def _draft(rng: np.random.Generator, kind: str) -> dict:
    """The random content of a document of ``kind``: all fields of `Document` but its key and seed."""
    name, size = str(rng.choice(FONTS)), int(rng.choice([52, 56]))
    entries: tuple[Entry, ...] = ()
    title = total = photo = None
    match kind:
        case "text":
            lines = _page_lines(rng, name, size)
        case "rich":
            photo, lines = str(rng.choice(BACKGROUNDS)), _sign_lines(rng, name, size)
        case "receipt":
            title, *labels = _words(rng, int(rng.integers(3, 5)))
            entries = tuple(Entry(label, int(rng.integers(1, MAX_VALUE + 1))) for label in labels)
            total = sum(entry.value for entry in entries)
            lines = _receipt_lines(entries, title, total, name, size)
        case "chart" | "table":
            title, *labels = _words(rng, 4)
            # Distinct values: one bar is the tallest.
            values = rng.choice(np.arange(1, MAX_VALUE + 1), size=3, replace=False)
            entries = tuple(Entry(label, int(value)) for label, value in zip(labels, values, strict=True))
            lines = [Line(title, None), *(Line(f"{e.label} {e.value}", None) for e in entries)]
        case _:
            raise ValueError(f"kind: {kind!r} is not one of {', '.join(DOCUMENT_KINDS)}")
    return dict(
        kind=kind, lines=tuple(lines), entries=entries, title=title, total=total, background=photo,
        font=name, font_size=size
    )  # fmt: skip


def make_document(namespace: str, index: int, kind: str) -> Document:
    """Document ``index`` of ``namespace``. Benchmark documents never say what one of another namespace
    says."""
    rng = rng_for("document", namespace, index, kind)
    draft = _draft(rng, kind)
    while not fits_split(namespace, [kind, *(line.text for line in draft["lines"])]):
        draft = _draft(rng, kind)
    return Document(key=f"{kind}-{namespace}-{index:06d}", seed=int(rng.integers(2**31)), **draft)


def _write(draw: ImageDraw.ImageDraw, document: Document, line: Line, ink: tuple[int, int, int]) -> None:
    for word, column in zip(line.text.split(), line.columns, strict=True):
        draw.text(
            _place(column, line.row),
            word,
            fill=ink,
            font=font(document.font, document.font_size),
            anchor="ls",
        )


def _render_page(document: Document, rng: np.random.Generator) -> Image.Image:
    paper, ink = int(rng.integers(225, 256)), int(rng.integers(0, 60))
    image = Image.new("RGB", (CANVAS, CANVAS), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    for line in document.lines:
        _write(draw, document, line, (ink, ink, ink))
    if document.kind == "receipt":
        y = document.lines[-1].row * CELL
        draw.line((56, y, 456, y), fill=(ink, ink, ink), width=4)
    return image


def _render_signs(document: Document, rng: np.random.Generator) -> Image.Image:
    image = background(document.background, rng)
    draw = ImageDraw.Draw(image)
    for line in document.lines:
        board = SIGN_COLOURS[int(rng.integers(len(SIGN_COLOURS)))]
        x1, y1, x2, y2 = line.box
        draw.rounded_rectangle((x1 - 14, y1 - 12, x2 + 14, y2 + 12), radius=10, fill=board)
        _write(draw, document, line, (10, 10, 10) if sum(board) > 380 else (250, 250, 250))
    return image


def render_document(document: Document) -> Image.Image:
    """The 512 x 512 RGB picture of a document; the same bytes for the same document."""
    rng = np.random.default_rng(document.seed)
    match document.kind:
        case "chart":
            image = plots.bar_chart(document.title, document.entries, document.font, rng)
        case "table":
            image = plots.table(document.title, document.entries, document.font, rng)
        case "rich":
            image = _render_signs(document, rng)
        case _:
            image = _render_page(document, rng)
    return add_noise(image, rng)
