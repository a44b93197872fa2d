"""What the stand-ins are pretrained on: pictures at their input size with captions, and the same truth as
symbols for the LLMs.

Everything is drawn from the namespace ``standins``: no image of the paper's graph is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

from granvit.files import replacing
from granvit.miniature.questions.pairs import QA, instruction_qa
from granvit.miniature.questions.variants import render
from granvit.miniature.world import plots
from granvit.miniature.world.documents import Document, make_document
from granvit.miniature.world.rendering import CELL, ink_box
from granvit.miniature.world.scenes import Scene, make_scene
from granvit.miniature.world.words import DOCUMENT_KINDS

NAMESPACE = "standins"
INPUT_SIZE = 128  # px
GRID = 8  # patches a side
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


def image_pool(path: Path, count: int) -> np.ndarray:
    """The first ``count`` pictures at ``INPUT_SIZE``: uint8 (count, 3, 128, 128), kept in ``path`` for the
    next call."""
    if not path.exists():
        with replacing(path) as temporary:
            pool = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, 3, INPUT_SIZE, INPUT_SIZE))
            for index in range(count):
                small = render(make_truth(index)).resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC)
                pool[index] = np.asarray(small).transpose(2, 0, 1)
            pool.flush()
    pool = np.load(path, mmap_mode="r")
    if len(pool) != count:
        raise ValueError(
            f"{path}: holds {len(pool)} pictures, {count} were asked for. Delete it to draw it again."
        )
    return pool


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


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step down the gradient, clipped to norm 1, at a learning rate."""
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = rate
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def save(out_dir: Path, manifest: dict, model: PreTrainedModel, reads) -> None:
    """A Hugging Face folder: a model, in bf16 to halve what the repository carries, what ``reads`` for it
    (tokenizer or image processor), and the manifest.
    """
    model.to(torch.bfloat16).save_pretrained(out_dir)
    reads.save_pretrained(out_dir)
    (out_dir / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
