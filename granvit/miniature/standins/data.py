"""What the stand-ins are pretrained on: pictures at their input size with captions, and the same truth as
symbols for the LLMs.

Everything is drawn from the namespace ``standins``: no image of the paper's graph is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from granvit.files import replacing
from granvit.miniature.questions.pairs import QA, instruction_qa
from granvit.miniature.questions.variants import render
from granvit.miniature.world import plots
from granvit.miniature.world.documents import Document, make_document
from granvit.miniature.world.rendering import CELL, ink_box
from granvit.miniature.world.scenes import Scene, make_scene
from granvit.miniature.world.words import COLOURS, DOCUMENT_KINDS, SHAPES, TEXTURES, WORDS

NAMESPACE = "standins"
INPUT_SIZE = 128  # px
GRID = 8  # patches a side
GROUPS = {"shape": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES, "word": WORDS}
LEVELS = ("object", "word", "scene", "document")  # by index modulo four
_WORD_KINDS = ("text", "rich")
# Scenes with one object and documents with one line, as web images mostly show one thing: from full scenes
# alone SigLIP2's objective learned nothing in 34k images.


def make_truth(index: int) -> Scene | Document:
    """Item ``index`` of the stand-ins' world, of the level ``LEVELS[index % 4]``."""
    level, turn = LEVELS[index % 4], index // 4
    if level in ("object", "scene"):
        scene = make_scene(NAMESPACE, index)
        return replace(scene, objects=scene.objects[turn % 2 :][:1]) if level == "object" else scene
    if level == "word":
        document = make_document(NAMESPACE, index, _WORD_KINDS[turn % 2])
        return replace(document, lines=document.lines[:1])
    return make_document(NAMESPACE, index, DOCUMENT_KINDS[turn % len(DOCUMENT_KINDS)])


def some_questions(truth: Scene | Document, rng: np.random.Generator, count: int) -> list[QA]:
    """At most ``count`` of the questions that the instruction data asks of a truth, with their answers."""
    pairs = instruction_qa(truth, int(rng.integers(2**31)))
    return [pairs[i] for i in rng.permutation(len(pairs))[:count]]


def full_index(number: int) -> int:
    """The index of the ``number``-th truth that is a whole scene or document, of which all questions can be
    asked."""
    return 4 * (number // 2) + 2 + number % 2


@dataclass(frozen=True)
class Pictures:
    """Pictures at ``INPUT_SIZE`` with what is known of them.

    pixels: uint8 (N, 3, 128, 128); labels: int8 (N, 64, groups), which word of each of ``GROUPS`` a patch
    shows, -1 for none or several; full: the caption of each; parts: captions of single things in it.
    """

    pixels: np.ndarray
    labels: np.ndarray
    full: list[str]
    parts: list[list[str]]


def picture(index: int) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    """Pixels, labels and captions of picture ``index``, as `Pictures` holds them."""
    truth = make_truth(index)
    small = render(truth).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
    labels = [[_only(slot, names) for names in GROUPS.values()] for slot in symbols(truth)]
    return (
        np.asarray(small).transpose(2, 0, 1),
        np.array(labels, dtype=np.int8),
        truth.caption(),
        _parts(truth),
    )


def _only(slot: list[str], names: tuple[str, ...]) -> int:
    seen = [names.index(word) for word in slot if word in names]
    return seen[0] if len(seen) == 1 else -1


def _parts(truth: Scene | Document) -> list[str]:
    """Captions of one thing: web captions name what matters, not everything, and only they make a batch
    hard."""
    if isinstance(truth, Scene):
        return [f"{thing.caption()} at the {thing.place}" for thing in truth.objects]
    return [text for text, _ in printed(truth) if not text.isdigit()]


def draw_pictures(path: Path, count: int, workers: Pool | None = None) -> None:
    """Render the first ``count`` pictures into ``path`` (npz)."""
    made = workers.imap(picture, range(count), chunksize=32) if workers else map(picture, range(count))
    pixels, labels, full, parts = zip(*made, strict=True)
    captions = np.array(["\n".join([text, *some]) for text, some in zip(full, parts, strict=True)])
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, pixels=np.stack(pixels), labels=np.stack(labels), captions=captions)


def load_pictures(path: Path) -> Pictures:
    """What `draw_pictures` wrote."""
    with np.load(path) as held:
        captions = [str(text).split("\n") for text in held["captions"]]
        full, parts = [texts[0] for texts in captions], [texts[1:] for texts in captions]
        return Pictures(held["pixels"], held["labels"], full, parts)


def printed(document: Document) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Each separately printed string of a document with the pixel box of its ink."""
    if document.kind not in ("chart", "table"):
        yield from ((line.text, line.box) for line in document.lines)
        return
    for text, column, row in plots.places(document.kind, document.title, document.entries):
        yield text, ink_box(text, column, row, document.font, plots.TYPE_SIZE)


def symbols(truth: Scene | Document) -> list[list[str]]:
    """For each of the 64 patches, in reading order, the words that say what is seen there."""
    slots: list[list[str]] = [[] for _ in range(GRID * GRID)]
    if isinstance(truth, Scene):
        for thing in truth.objects:
            _write(slots, thing.box, [thing.size, thing.texture, thing.colour, thing.shape])
        return slots
    if truth.kind in ("chart", "table"):
        words = plots.places(truth.kind, truth.title, truth.entries)
    else:
        words = [
            (word, column, line.row)
            for line in truth.lines
            for word, column in zip(line.text.split(), line.columns, strict=True)
        ]
    for word, column, row in words:
        cells = 1 if len(word) <= 2 else 2
        _write(slots, (column * CELL, row * CELL, (column + cells) * CELL, (row + 1) * CELL), [word])
    return slots


def _write(slots: list[list[str]], box: tuple[int, int, int, int], words: list[str]) -> None:
    """Put ``words`` into every patch of a box (pixels, on the grid)."""
    x1, y1, x2, y2 = (edge // CELL for edge in box)
    for row in range(y1, y2):
        for column in range(x1, min(x2, GRID)):
            slots[row * GRID + column].extend(words)


def save(out_dir: Path, manifest: dict, model: PreTrainedModel, reads) -> None:
    """A Hugging Face folder: a model, in bf16 to halve what the repository carries, what ``reads`` for it
    (tokenizer or image processor), and the manifest.
    """
    model.to("cpu", torch.bfloat16).save_pretrained(out_dir)
    reads.save_pretrained(out_dir)
    (out_dir / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
