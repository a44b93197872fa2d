"""OCR images of the miniature: text pages, charts, tables, receipts and signs on photographs, with their
exact text.

Words begin at the left edge of a 64 px cell and stand on a common baseline in it, so that a small encoder
meets the same piece of a word in the same place of a patch; without that no reading was learned in minutes
(docs/miniature.md).

The truth is for evaluation and instruction data; pretraining sees only what PaddleOCR reads on the pixels
(Sec. 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

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
    ink_box,
    place,
    rng_for,
)
from granvit.miniature.world.words import DOCUMENT_KINDS, MAX_VALUE, WORDS

SIGN_COLOURS = ((250, 250, 245), (255, 214, 0), (20, 60, 140), (170, 20, 30), (15, 90, 50))


@dataclass(frozen=True)
class Line:
    """One line of printed text: the pixel box xyxy of its ink, the grid column where each word begins, and
    its row.

    Charts and tables have no boxes: matplotlib draws them (`plots.places` says in which cells).
    """

    text: str
    box: tuple[int, int, int, int] | None = None
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

    def caption(self) -> str:
        """The text on the image in reading order, after the kind: ``a receipt that says tea 4, total 4.``"""
        noun = {"text": "page", "rich": "sign"}.get(self.kind, self.kind)
        return f"a {noun} that says {', '.join(line.text for line in self.lines)}."


def _words(rng: np.random.Generator, count: int) -> list[str]:
    return [str(word) for word in rng.choice(WORDS, size=count, replace=False)]


def lines_of(title: str, entries: Iterable[Entry]) -> tuple[Line, ...]:
    """What a chart or a table says, without boxes."""
    return (Line(title), *(Line(f"{entry.label} {entry.value}") for entry in entries))


def _line(words: list[str], columns: list[int], row: int, name: str, size: int) -> Line:
    """A line whose words begin at the given columns, with the box around all their ink."""
    boxes = [ink_box(word, column, row, name, size) for word, column in zip(words, columns, strict=True)]
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    box = (int(min(x1)), int(min(y1)), ceil(max(x2)), ceil(max(y2)))
    return Line(" ".join(words), box, tuple(columns), row)


# The words of a line, the columns where they begin, its row.
_Placed = tuple[list[str], list[int], int]


def _page_lines(rng: np.random.Generator) -> list[_Placed]:
    words, lines, row = _words(rng, 10), [], int(rng.integers(0, 2))
    for _ in range(int(rng.integers(3, 6))):
        left, count = int(rng.integers(0, 3)), int(rng.integers(1, 3))
        taken, words = words[:count], words[count:]
        lines.append((taken, [left + 3 * i for i in range(count)], row))
        row += int(rng.integers(1, 3)) if row < 4 else 1  # a fifth line is in row 7 at most
    return lines


def _receipt_lines(entries: tuple[Entry, ...], title: str, total: int) -> list[_Placed]:
    rows = [(entry.label, str(entry.value)) for entry in entries] + [("total", str(total))]
    return [([title], [3], 0), *((list(row), [1, 5], number) for number, row in enumerate(rows, 2))]


def _sign_lines(rng: np.random.Generator) -> list[_Placed]:
    words = _words(rng, int(rng.integers(2, 4)))
    rows = sorted(int(row) for row in rng.choice([0, 2, 4, 6], size=len(words), replace=False))
    return [([word], [int(rng.integers(0, 6))], row) for word, row in zip(words, rows, strict=True)]


def _draft(rng: np.random.Generator, kind: str) -> dict:
    """The random content of a document of ``kind``: all fields of `Document` but its key and seed."""
    name, size = str(rng.choice(FONTS)), int(rng.choice([52, 56]))
    entries: tuple[Entry, ...] = ()
    title = total = photo = None
    placed: list[_Placed] = []
    match kind:
        case "text":
            placed = _page_lines(rng)
        case "rich":
            photo, placed = str(rng.choice(BACKGROUNDS)), _sign_lines(rng)
        case "receipt":
            title, *labels = _words(rng, int(rng.integers(3, 5)))
            entries = tuple(Entry(label, int(rng.integers(1, MAX_VALUE + 1))) for label in labels)
            total = sum(entry.value for entry in entries)
            placed = _receipt_lines(entries, title, total)
        case "chart" | "table":
            title, *labels = _words(rng, 4)
            # Distinct values: one bar is the tallest.
            values = rng.choice(np.arange(1, MAX_VALUE + 1), size=3, replace=False)
            entries = tuple(Entry(label, int(value)) for label, value in zip(labels, values, strict=True))
        case _:
            raise ValueError(f"kind: {kind!r} is not one of {', '.join(DOCUMENT_KINDS)}")
    lines = tuple(_line(*line, name, size) for line in placed) or lines_of(title, entries)
    return dict(
        kind=kind, lines=lines, entries=entries, title=title, total=total, background=photo,
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
    typeface = font(document.font, document.font_size)
    for word, column in zip(line.text.split(), line.columns, strict=True):
        draw.text(place(column, line.row), word, fill=ink, font=typeface, anchor="ls")


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
