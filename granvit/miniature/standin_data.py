"""What the stand-ins are pretrained on: pictures at their input size with captions, and the same truth as symbols for the LLMs.

Everything is drawn from the namespace ``standins``: no image of the paper's graph is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from granvit.miniature.documents import Document, make_document, render_document
from granvit.miniature.rendering import CANVAS
from granvit.miniature.scenes import Scene, make_scene, render_scene

NAMESPACE = "standins"
INPUT_SIZE = 128  # px
GRID = 8  # patches a side
# One cycle of kinds: half scenes, half documents; matplotlib's kinds are rarer because they cost four times as much.
_CYCLE = ("scene", "text", "scene", "receipt", "scene", "rich", "scene", "text", "scene", "receipt", "scene", "rich", "scene",
          "chart", "scene", "table")  # fmt: skip


def make_truth(index: int) -> Scene | Document:
    """Item ``index`` of the stand-ins' world."""
    kind = _CYCLE[index % len(_CYCLE)]
    return make_scene(NAMESPACE, index) if kind == "scene" else make_document(NAMESPACE, index, kind)


def render(truth: Scene | Document) -> Image.Image:
    """The 512 px picture of a truth."""
    return render_scene(truth) if isinstance(truth, Scene) else render_document(truth)


def image_pool(path: Path, count: int) -> np.ndarray:
    """The first ``count`` pictures at ``INPUT_SIZE``: uint8 (count, 3, 128, 128), kept in ``path`` for the next call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.npy")
        pool = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, 3, INPUT_SIZE, INPUT_SIZE))
        for index in range(count):
            small = render(make_truth(index)).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
            pool[index] = np.asarray(small).transpose(2, 0, 1)
        pool.flush()
        os.replace(temporary, path)
    pool = np.load(path, mmap_mode="r")
    if len(pool) != count:
        raise ValueError(f"{path}: holds {len(pool)} pictures, {count} were asked for. Delete it to draw it again.")
    return pool


def printed(document: Document) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Each separately printed string of a document with its (for matplotlib's kinds: approximate) pixel box."""
    if document.kind not in ("chart", "table"):
        yield from ((line.text, line.box) for line in document.lines)
        return
    count = len(document.entries)
    yield document.title, (_around(256, 36, document.title))
    for index, entry in enumerate(document.entries):
        if document.kind == "chart":
            x = (0.04 + 0.92 * (index + 0.5) / count) * CANVAS
            top = (0.87 - 0.70 * entry.value / max(e.value for e in document.entries) / 1.25) * CANVAS
            yield entry.label, _around(x, 472, entry.label)
            yield str(entry.value), _around(x, top - 26, str(entry.value))
        else:
            y = (0.22 + 0.74 * (index + 0.5) / count) * CANVAS
            yield entry.label, _around(170, y, entry.label)
            yield str(entry.value), _around(385, y, str(entry.value))


def _around(x: float, y: float, text: str) -> tuple[float, float, float, float]:
    """A box around (x, y) about as large as ``text`` is printed in plots."""
    half = 15.0 * len(text)
    return (max(0.0, x - half), y - 22, min(float(CANVAS), x + half), y + 22)


def symbols(truth: Scene | Document) -> list[list[str]]:
    """For each of the 64 patches, in reading order, the words that say what is seen there."""
    slots: list[list[str]] = [[] for _ in range(GRID * GRID)]
    if isinstance(truth, Scene):
        for thing in truth.objects:
            _write(slots, thing.box, [thing.size, thing.texture, thing.colour, thing.shape])
        return slots
    for text, (x1, y1, x2, y2) in printed(truth):
        left = x1
        for word in text.split():
            right = left + (x2 - x1) * (len(word) + 1) / (len(text) + 1)
            _write(slots, (left, y1, right, y2), [word])
            left = right
    return slots


def _write(slots: list[list[str]], box: tuple[float, ...], words: list[str]) -> None:
    """Put ``words`` into every patch that ``box`` (pixels) covers by a fifth of a patch or more."""
    cell = CANVAS / GRID
    columns, rows = (
        [i for i in range(GRID) if min(high, (i + 1) * cell) - max(low, i * cell) >= cell / 5]
        for low, high in ((box[0], box[2]), (box[1], box[3]))
    )
    for row in rows:
        for column in columns:
            slots[row * GRID + column].extend(words)
