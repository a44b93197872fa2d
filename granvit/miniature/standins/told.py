"""Pictures told in symbols: what the LLM stand-ins are trained on.

The 64 image positions hold, instead of visual features, the sum of the embeddings of the words that describe
each patch, most of the time with the patch's place as box numbers. The questions are those of the miniature's
world, regions in both directions. The boxes that are asked about are widened at random, so that an
annotator's box and the ink mean the same; the boxes that are answered are exact.
"""

from __future__ import annotations

import queue
import threading
from functools import cache
from multiprocessing.pool import Pool

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION, bbox2caption_question, caption2bbox_question
from granvit.miniature.questions.pairs import QA
from granvit.miniature.questions.scenes import box_text, region_caption
from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins.tokenizer import build_tokenizer
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import rng_for
from granvit.miniature.world.scenes import Scene
from granvit.models.packing import ChatFormat, image_length, pack

PATCHES = standin_data.GRID**2
WIDENED = 16.0  # px at most, on each side: how far PaddleOCR's boxes go beyond the ink
EXACT = 1 / 3  # of the boxes stay as they are
PLACED = 0.8  # of the pictures say where each patch is
REGIONS = 3  # asked of a picture, in both directions
QUESTIONS = 5  # others
LENGTH = 320  # positions of a row; one picture in twenty loses a question or two
SLOT = 6  # symbols of a patch at most: four words, column and row
IGNORED = -100  # label of a position that predicts nothing
FIRST_TRUTH = 50_000  # apart from the encoders' pictures
PATIENCE = 120  # s; a worker that is silent for longer has died
CHUNK = 64  # pictures that a worker hands over at once
# Name of an array -> its shape behind the number of pictures, all int16.
SHAPES = {
    "ids": (LENGTH,), "positions": (LENGTH,), "segments": (LENGTH,), "labels": (LENGTH,),
    "slots": (PATCHES, SLOT),
}  # fmt: skip

Rows = dict[str, np.ndarray]


def widen(box: tuple[float, ...], rng: np.random.Generator, exact: float = EXACT) -> tuple[float, ...]:
    """The box (pixels) with each side moved outwards by up to ``WIDENED``; a share of ``exact`` as it is."""
    if rng.random() < exact:
        return box
    left, top, right, bottom = rng.uniform(0, WIDENED, 4)
    return (box[0] - left, box[1] - top, box[2] + right, box[3] + bottom)


def regions(truth: Scene | Document, rng: np.random.Generator) -> list[tuple[str, tuple[float, ...]]]:
    """Every region with its caption, in one of the forms, or its text. A text that stands twice is none."""
    if isinstance(truth, Scene):
        return [(region_caption(truth.objects, thing, rng), thing.box) for thing in truth.objects]
    printed = list(standin_data.printed(truth))
    texts = [text for text, _ in printed]
    return [(text, box) for text, box in printed if texts.count(text) == 1]


def questions(truth: Scene | Document, rng: np.random.Generator) -> list[QA]:
    """Up to twelve question-answer pairs on one truth: regions in both directions, the world's own questions,
    the caption."""
    known, pairs = regions(truth, rng), []
    for index in rng.permutation(len(known))[:REGIONS]:
        text, box = known[index]
        pairs.append((bbox2caption_question(box_text(widen(box, rng))), text))
        pairs.append((caption2bbox_question(text), box_text(box)))
    pairs += standin_data.some_questions(truth, rng, QUESTIONS)
    if rng.random() < 0.15:
        pairs.append((GLOBAL_CAPTION_QUESTION, truth.caption()))
    return pairs


class Symbols:
    """Turns the words on each patch into token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.encode = cache(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        grid = standin_data.GRID
        self.places = [
            self.encode(f"[{i % grid / grid:g}")[:1] + self.encode(f", {i // grid / grid:g}")[:1]
            for i in range(PATCHES)
        ]

    def slots(self, truth: Scene | Document, placed: bool) -> np.ndarray:
        """(64, SLOT) int16, -1 where there is no symbol; ``placed``: with the patch's left and top edge as
        box numbers."""
        slots = np.full((PATCHES, SLOT), -1, dtype=np.int16)
        for patch, words in enumerate(standin_data.symbols(truth)):
            ids = [token for word in words for token in self.encode(f" {word}")]
            ids += self.places[patch] if placed else []
            slots[patch, : len(ids)] = ids
        return slots


def embed_symbols(weight: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """(B, 64, SLOT) ids, -1 for none, and (V, D) embeddings -> (B, 64, D): the sum on each patch."""
    seen = weight.index_select(0, slots.clamp(min=0).flatten()).view(*slots.shape, -1)
    return (seen * (slots >= 0)[..., None]).sum(2)


class Teller:
    """Makes rows for one LLM family's tokenizer."""

    def __init__(self, family: str) -> None:
        tokenizer = build_tokenizer(family)
        self.chat, self.symbols = ChatFormat(tokenizer), Symbols(tokenizer)

    def rows(self, seed: int, first: int, count: int) -> Rows:
        """Pictures ``first`` and those behind it, each with its questions packed into one row."""
        rows = {name: np.zeros((count, *shape), dtype=np.int16) for name, shape in SHAPES.items()}
        rows["segments"][:], rows["labels"][:] = -1, IGNORED
        for row in range(count):
            truth = standin_data.make_truth(standin_data.full_index(first + row))
            rng = rng_for("told", seed, first + row)
            self._write({name: array[row] for name, array in rows.items()}, truth, rng)
        return rows

    def _write(self, row: Rows, truth: Scene | Document, rng: np.random.Generator) -> None:
        segments = [self.chat.segment(question, answer) for question, answer in questions(truth, rng)]
        while image_length(segments, self.chat, PATCHES) > LENGTH:
            segments.pop()
        packed = pack([segments], self.chat, PATCHES)
        length = min(LENGTH, packed.ids.shape[1])
        for name, tensor in zip(SHAPES, (packed.ids, packed.position_ids, packed.segments), strict=False):
            row[name][:length] = tensor[0, :length]
        row["labels"][packed.predictors] = packed.targets
        row["slots"][:] = self.symbols.slots(truth, placed=rng.random() < PLACED)


_teller = cache(Teller)


def make_rows(task: tuple[str, int, int]) -> Rows:
    """What a worker does: `CHUNK` rows for (family, seed, first picture)."""
    family, seed, first = task
    return _teller(family).rows(seed, first, CHUNK)


class Feed:
    """``count`` rows, which worker processes make while the training is under way; without ``workers``, this
    process makes them when they are asked for. ``left``: chunks that are still to be taken."""

    def __init__(
        self, family: str, seed: int, count: int, workers: Pool | None = None, skip: int = 0
    ) -> None:
        starts = range(FIRST_TRUTH + skip, FIRST_TRUTH + skip + count, CHUNK)
        tasks = [(family, seed, first) for first in starts]
        self.left, self._queue = len(tasks), queue.Queue()
        self._tasks = None if workers else iter(tasks)
        if workers:
            made = workers.imap_unordered(make_rows, tasks)
            threading.Thread(target=lambda: [self._queue.put(rows) for rows in made], daemon=True).start()

    def take(self, wait: bool) -> list[Rows]:
        """What has come in since; ``wait``: at least one chunk, as long as any is left."""
        chunks = []
        while self.left and (not self._queue.empty() if self._tasks is None else not chunks):
            chunks.append(
                self._queue.get(timeout=PATIENCE) if self._tasks is None else make_rows(next(self._tasks))
            )
            self.left -= 1
        if wait and self.left and not chunks:
            chunks.append(self._queue.get(timeout=PATIENCE))
            self.left -= 1
        return chunks


class RowStore:
    """Room for ``capacity`` rows on a device, to draw batches from while it fills."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.arrays = {
            name: torch.zeros(capacity, *shape, dtype=torch.int16, device=device)
            for name, shape in SHAPES.items()
        }
        self.capacity, self.filled = capacity, 0
        self.count = torch.zeros((), device=device)  # the same number, where a captured step can read it

    def add(self, rows: Rows) -> None:
        """Put rows behind those that are there; a full store drops them."""
        new = min(len(rows["ids"]), self.capacity - self.filled)
        for name, array in rows.items():
            self.arrays[name][self.filled : self.filled + new] = torch.from_numpy(array[:new])
        self.filled += new
        self.count.fill_(self.filled)

    def draw(self, batch: int) -> dict[str, torch.Tensor]:
        """``batch`` random rows (int64)."""
        chosen = (torch.rand(batch, device=self.count.device) * self.count).long()
        chosen = torch.minimum(chosen, self.count.long() - 1)  # the product may round up
        return {name: array.index_select(0, chosen).long() for name, array in self.arrays.items()}
