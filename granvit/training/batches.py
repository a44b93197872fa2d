"""Batches: where data meets models. A mixture's rows become packed rows of tokens, pixels and regions.

A batch is a pure function of (seed, step), so a resumed run sees the same batches without keeping any
iterator's state.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as parquet
import torch

from granvit.boxes import to_canvas
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.models.packing import PackedBatch, Segment, pack
from granvit.models.tiling import locate_view
from granvit.training.images import ImageStore

COLUMNS = ["key", "shard", "offset", "size", "width", "height", "qa"]


class Mixture:
    """Rows of a mixture's Parquet file, one an image. Raises GranvitError when it is missing, empty or
    not a mixture."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise GranvitError(f"mixture: {path} does not exist; make it with `snakemake {path}`")
        missing = set(COLUMNS) - set(parquet.read_schema(self.path).names)
        if missing:
            raise GranvitError(
                f"mixture: {path} has no column {', '.join(sorted(missing))}; expected a mixture's Parquet "
                f"file"
            )
        self.table = parquet.read_table(self.path, columns=COLUMNS)
        if not len(self.table):
            raise GranvitError(
                f"mixture: {path} holds no image; give its sources more images, or relax the filters"
            )

    def __len__(self) -> int:
        return len(self.table)

    def row(self, index: int) -> dict:
        """One image's row as plain Python values."""
        return self.table.slice(index, 1).to_pylist()[0]


@dataclass(frozen=True)
class Example:
    """One image's text and regions. ``segments``: its question-answer pairs; ``boxes``: distinct regions,
    pixels of the original."""

    key: str
    width: int
    height: int
    segments: list[Segment]
    tasks: list[str]
    questions: list[str]
    answers: list[str]
    boxes: list[list[float]]


class Examples:
    """Tokenised rows of a mixture; kept in memory when several epochs will ask for them again."""

    def __init__(self, mixture: Mixture, model: MLLM, tasks: tuple[str, ...], keep: bool) -> None:
        self.mixture, self.chat, self.tasks, self.keep = mixture, model.chat, tasks, keep
        self.kept: dict[int, Example] = {}

    def __getitem__(self, index: int) -> Example:
        if index in self.kept:
            return self.kept[index]
        example = self._make(self.mixture.row(index))
        if self.keep:
            self.kept[index] = example
        return example

    def _make(self, row: dict) -> Example:
        pairs, key = row["qa"], row["key"]
        if not pairs:
            raise GranvitError(
                f"mixture: {self.mixture.path}: image {key!r} has no question; make the mixture again"
            )
        for pair in pairs:
            if pair["task"] not in self.tasks:
                raise GranvitError(
                    f"mixture: {self.mixture.path}: image {key!r} has task {pair['task']!r}, this stage "
                    f"learns "
                    f"{', '.join(self.tasks)}; name another mixture in the recipe"
                )
        boxes = [list(box) for box in dict.fromkeys(tuple(pair["box"]) for pair in pairs if pair["box"])]
        segments = [self.chat.segment(pair["question"], pair["answer"]) for pair in pairs]
        columns = ([pair[name] for pair in pairs] for name in ("task", "question", "answer"))
        return Example(key, row["width"], row["height"], segments, *columns, boxes)


class Order:
    """Which images make up which step: a seeded permutation an epoch, one after the other (0-based steps)."""

    def __init__(self, images: int, epochs: float, batch_size: int, seed: int) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.total = math.ceil(images * epochs)
        self.steps = math.ceil(self.total / batch_size)
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.long)

    def rows(self, step: int) -> list[int]:
        """Row numbers of a step's batch; the last batch may be smaller."""
        begin = step * self.batch_size
        return [self._row(position) for position in range(begin, min(begin + self.batch_size, self.total))]

    def epoch(self, step: int) -> int:
        """The epoch in which a step begins."""
        return step * self.batch_size // self.images

    def _row(self, position: int) -> int:
        epoch, place = divmod(position, self.images)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(_hash_number(f"{self.seed}/{epoch}"))
            self._epoch, self._permutation = epoch, torch.randperm(self.images, generator=generator)
        return int(self._permutation[place])


@dataclass
class Regions:
    """Regions to distil. boxes: (R, 4) xyxy, pixels of the view they are looked at; views: (R,) which of
    the batch's views."""

    boxes: torch.Tensor
    views: torch.Tensor

    def to(self, device: torch.device) -> Regions:
        """Copy on ``device``."""
        return Regions(self.boxes.to(device), self.views.to(device))


@dataclass
class Batch:
    """``pixels``: uint8 (B, [views,] 3, S, S), or None when the encoder's features are remembered."""

    keys: list[str]
    rows: list[int]
    pixels: torch.Tensor | None
    packed: PackedBatch
    regions: Regions | None


class Batches:
    """Makes the batch of any step. ``with_pixels=False`` leaves images out (features of a frozen encoder
    are remembered)."""

    def __init__(
        self,
        examples: Examples,
        images: ImageStore,
        order: Order,
        model: MLLM,
        distillation,
        with_pixels: bool,
    ) -> None:
        self.examples, self.images, self.order, self.model = examples, images, order, model
        self.distillation, self.with_pixels = distillation, with_pixels

    def __getitem__(self, step: int) -> Batch:
        rows = self.order.rows(step)
        examples = [self.examples[row] for row in rows]
        return Batch(
            keys=[example.key for example in examples],
            rows=rows,
            pixels=torch.stack([self.images[row] for row in rows]) if self.with_pixels else None,
            packed=pack([example.segments for example in examples], self.model.chat, self.model.image_tokens),
            regions=self._regions(examples, step) if self.distillation else None,
        )

    def _regions(self, examples: list[Example], step: int) -> Regions:
        size, views_an_image = self.model.encoder.spec.image_size, self.model.views
        boxes, views = [], []
        for number, example in enumerate(examples):
            salt = f"{self.order.seed}/{self.order.epoch(step)}/{example.key}"
            chosen = choose_regions(example.boxes, self.distillation.regions_per_image, salt)
            for box in chosen:
                canvas_box = to_canvas(
                    widen(box, self.distillation.context), example.width, example.height, size
                )
                view, view_box = locate_view(canvas_box, size, self.model.tiles)
                boxes.append(view_box)
                views.append(number * views_an_image + view)
        return Regions(torch.tensor(boxes).reshape(-1, 4), torch.tensor(views, dtype=torch.long))


def choose_regions(boxes: list[list[float]], count: int, salt: str) -> list[list[float]]:
    """At most ``count`` of an image's boxes, chosen by hash: another choice each epoch, the same on every
    machine."""
    if len(boxes) <= count:
        return boxes
    return sorted(boxes, key=lambda box: hashlib.sha256(f"{salt}/{box}".encode()).digest())[:count]


def widen(box: list[float], context: float) -> list[float]:
    """The box with a margin of ``context`` times its sides around it."""
    x1, y1, x2, y2 = box
    dx, dy = context * (x2 - x1), context * (y2 - y1)
    return [x1 - dx, y1 - dy, x2 + dx, y2 + dy]


def _hash_number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
