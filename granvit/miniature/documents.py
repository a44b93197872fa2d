"""OCR images of the miniature: text pages, charts, tables, receipts and signs on photographs, with their exact text.

The truth is for evaluation and instruction data; pretraining sees only what PaddleOCR reads on the pixels (Sec. 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from granvit.miniature import plots
from granvit.miniature.rendering import BACKGROUNDS, CANVAS, FONTS, add_noise, background, fits_split, font, rng_for
from granvit.miniature.words import DOCUMENT_KINDS, MAX_VALUE, WORDS

SLOT = 96  # px between two lines of a page
SIGN_COLOURS = ((250, 250, 245), (255, 214, 0), (20, 60, 140), (170, 20, 30), (15, 90, 50))


@dataclass(frozen=True)
class Line:
    """One line of printed text with its pixel box xyxy (as drawn; charts and tables: None, matplotlib places them)."""

    text: str
    box: tuple[int, int, int, int] | None


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


def _measure(text: str, name: str, size: int, left: int, top: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = font(name, size).getbbox(text, anchor="lt")
    return (left + int(x1), top + int(y1), left + int(np.ceil(x2)), top + int(np.ceil(y2)))


def _page_lines(rng: np.random.Generator, name: str, size: int) -> list[Line]:
    words = _words(rng, 10)
    lines = []
    for row in range(int(rng.integers(3, 6))):
        text = " ".join(words[2 * row : 2 * row + int(rng.integers(1, 3))])
        left = int(rng.integers(24, 56))
        lines.append(Line(text, _measure(text, name, size, left, 24 + SLOT * row + int(rng.integers(0, 16)))))
    return lines


def _receipt_lines(entries: tuple[Entry, ...], title: str, total: int, name: str, size: int) -> list[Line]:
    rows = [title, *(f"{entry.label} {entry.value}" for entry in entries), f"total {total}"]
    return [Line(text, _measure(text, name, size, 72, 24 + SLOT * row)) for row, text in enumerate(rows)]


def _sign_lines(rng: np.random.Generator, name: str, size: int) -> list[Line]:
    words, lines = _words(rng, 3), []
    rows = sorted(int(row) for row in rng.choice(4, size=int(rng.integers(2, 4)), replace=False))
    for word, row in zip(words, rows, strict=False):
        left = int(rng.integers(40, CANVAS - 230))
        lines.append(Line(word, _measure(word, name, size, left, 40 + 124 * row)))
    return lines


def _draft(rng: np.random.Generator, kind: str) -> dict:
    """The random content of a document of ``kind``: all fields of `Document` but its key and seed."""
    name, size = str(rng.choice(FONTS)), int(rng.integers(52, 61))
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
            lines = _receipt_lines(entries, title.upper(), total, name, size)
        case "chart" | "table":
            title, *labels = _words(rng, 4)
            values = rng.choice(np.arange(1, MAX_VALUE + 1), size=3, replace=False)  # distinct: one tallest bar
            entries = tuple(Entry(label, int(value)) for label, value in zip(labels, values, strict=True))
            lines = [Line(title, None), *(Line(f"{e.label} {e.value}", None) for e in entries)]
        case _:
            raise ValueError(f"kind: {kind!r} is not one of {', '.join(DOCUMENT_KINDS)}")
    return dict(
        kind=kind, lines=tuple(lines), entries=entries, title=title, total=total, background=photo, font=name, font_size=size
    )  # fmt: skip


def make_document(namespace: str, index: int, kind: str) -> Document:
    """Document ``index`` of ``namespace``. Benchmark documents never say what one of another namespace says."""
    rng = rng_for("document", namespace, index, kind)
    draft = _draft(rng, kind)
    while not fits_split(namespace, [kind, *(line.text for line in draft["lines"])]):
        draft = _draft(rng, kind)
    return Document(key=f"{kind}-{namespace}-{index:06d}", seed=int(rng.integers(2**31)), **draft)


def _render_page(document: Document, rng: np.random.Generator) -> Image.Image:
    paper, ink = int(rng.integers(225, 256)), int(rng.integers(0, 60))
    image = Image.new("RGB", (CANVAS, CANVAS), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    for line in document.lines:
        draw.text(line.box[:2], line.text, fill=(ink, ink, ink), font=font(document.font, document.font_size), anchor="lt")
    if document.kind == "receipt":
        y = document.lines[-1].box[1] - 18
        draw.line((56, y, 456, y), fill=(ink, ink, ink), width=4)
    return image


def _render_signs(document: Document, rng: np.random.Generator) -> Image.Image:
    image = background(document.background, rng)
    draw = ImageDraw.Draw(image)
    for line in document.lines:
        board = SIGN_COLOURS[int(rng.integers(len(SIGN_COLOURS)))]
        ink = (10, 10, 10) if sum(board) > 380 else (250, 250, 250)
        x1, y1, x2, y2 = line.box
        draw.rounded_rectangle((x1 - 18, y1 - 20, x2 + 18, y2 + 20), radius=12, fill=board)
        draw.text((x1, y1), line.text, fill=ink, font=font(document.font, document.font_size), anchor="lt")
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
