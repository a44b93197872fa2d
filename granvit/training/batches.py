"""Batches: where data meets models. A mixture's rows become packed rows of tokens, pixels and regions.

A batch is a pure function of (seed, step), so a resumed run sees the same batches without keeping any
iterator's state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader

from granvit.boxes import to_canvas, widen
from granvit.data.records.images import UnreadableImage
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.models.packing import PackedBatch, Segment, pack, row_length, split_row
from granvit.models.tiling import locate_view
from granvit.training.contrast import Pairs, number_texts
from granvit.training.examples import Example, Examples, described_boxes
from granvit.training.images import FeatureStore, ImageStore


class Order:
    """Which images make up which step: a seeded permutation an epoch, one after the other (0-based steps)."""

    def __init__(self, images: int, epochs: float, batch_size: int, seed: int) -> None:
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.total = math.ceil(images * epochs)
        self.steps = math.ceil(self.total / batch_size)
        self._permutations: dict[int, torch.Tensor] = {}  # by epoch

    def rows(self, step: int) -> list[int]:
        """Row numbers of a step's batch; the last batch may be smaller."""
        begin = step * self.batch_size
        return [self._row(position) for position in range(begin, min(begin + self.batch_size, self.total))]

    def epoch(self, step: int) -> int:
        """The epoch in which a step begins."""
        return step * self.batch_size // self.images

    def draw_all(self) -> None:
        """Draw the order of every epoch, 4 bytes an image, for processes that are forked off from this one:
        they share it, instead of drawing it each for itself."""
        self._permutations = {
            epoch: self._draw(epoch) for epoch in range(math.ceil(self.total / self.images))
        }

    def _row(self, position: int) -> int:
        epoch, place = divmod(position, self.images)
        if epoch not in self._permutations:
            self._permutations = {epoch: self._draw(epoch)}
        return int(self._permutations[epoch][place])

    def _draw(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(_hash_number(f"{self.seed}/{epoch}"))
        return torch.randperm(self.images, generator=generator).int()


@dataclass
class Regions:
    """Regions to distil. boxes: (R, 4) xyxy, pixels of the view they are looked at; views: (R,) which of
    the batch's views."""

    boxes: torch.Tensor
    views: torch.Tensor

    def to(self, device: torch.device) -> Regions:
        """Copy on ``device``."""
        return Regions(self.boxes.to(device), self.views.to(device))


@dataclass(frozen=True)
class Sample:
    """A row of the mixture, read. ``pixels``: None when the encoder's features are remembered."""

    row: int
    example: Example
    pixels: torch.Tensor | None


@dataclass
class MicroBatch:
    """What one forward pass sees. ``rows``: of the mixture, one an image; twice that of an image whose
    questions are in two rows. ``pixels``: uint8 (B, [1 + n*n,] 3, S, S), or None when the encoder's
    features are remembered. ``pairs``: regions and their texts, where these are contrasted."""

    rows: list[int]
    pixels: torch.Tensor | None
    packed: PackedBatch
    regions: Regions | None
    pairs: Pairs | None = None

    def counts(self) -> tuple[int, int, int]:
        """Supervised tokens, or described regions where these are contrasted; regions; and images."""
        supervised = len(self.pairs.boxes) if self.pairs else len(self.packed.targets)
        return supervised, len(self.regions.boxes) if self.regions else 0, len(self.rows)


@dataclass
class Batch:
    """A rank's part of a step. ``keys``: images in it; ``skipped``: images that could not be read, with the
    cause."""

    keys: list[str]
    micros: list[MicroBatch]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class Samples:
    """Rows of a mixture, read: their text, and their pixels; with ``features`` of a frozen encoder, which
    are remembered, images are left out."""

    examples: Examples
    images: ImageStore
    features: FeatureStore | None = None

    def read(self, rows: Iterable[int]) -> tuple[list[Sample], list[tuple[str, str]]]:
        """The rows that can be read, and the keys of those that cannot, with the cause."""
        samples, skipped = [], []
        for row in rows:
            example = self.examples[row]
            try:
                pixels = self.features.require(row) if self.features else self.images[row]
            except UnreadableImage as error:
                skipped.append((example.key, str(error)))
            else:
                samples.append(Sample(row, example, pixels))
        return samples, skipped


@dataclass(frozen=True)
class Share:
    """A rank's part of every step: each ``ranks``-th image of it, in micro-batches of at most
    ``token_budget`` positions, which only a single question may exceed. ``joined``: all images of a
    micro-batch in one row (``packing.pack``)."""

    rank: int = 0
    ranks: int = 1
    token_budget: int = 1 << 30
    joined: bool = False

    def fits(self, lengths: list[int]) -> bool:
        """Whether images that take ``lengths`` positions may be one micro-batch."""
        taken = sum(lengths) if self.joined else len(lengths) * max(lengths, default=0)
        return taken <= self.token_budget


class Batches:
    """Makes a rank's part of the batch of any step. ``distillation``: the recipe's, where regions are
    distilled; ``contrasts``: whether regions and texts are paired."""

    def __init__(
        self,
        samples: Samples,
        order: Order,
        model: MLLM,
        distillation=None,
        share: Share | None = None,
        contrasts: bool = False,
    ) -> None:
        self.samples, self.order, self.model, self.distillation = samples, order, model, distillation
        self.share, self.contrasts = share or Share(), contrasts

    def __getitem__(self, step: int) -> Batch:
        rows = self.order.rows(step)[self.share.rank :: self.share.ranks]
        samples, skipped = self.samples.read(rows)
        pieces = [piece for sample in samples for piece in self._pieces(sample)]
        texts = self._texts(step) if self.contrasts else None
        micros = [self._micro(part, step, texts) for part in self._split(pieces)]
        return Batch([sample.example.key for sample in samples], micros, skipped)

    def blank(self) -> MicroBatch:
        """A micro-batch of one grey image that says nothing, for a rank that has fewer than the others."""
        packed = self._pack([[self.model.chat.segment("", "")]])
        regions = Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)) if self.distillation else None
        size, views = self.model.encoder.spec.image_size, self.model.views
        pixels = torch.full((1, views, 3, size, size), 128, dtype=torch.uint8)
        pairs = self._pairs([], {"": 0}) if self.contrasts else None
        return MicroBatch([], pixels if self.model.tiles else pixels[:, 0], packed, regions, pairs)

    def _pieces(self, sample: Sample) -> list[Sample]:
        """A sample; or, where its row alone is more than may be computed at once, its questions in several
        rows, each behind the image once more. The first of them has the regions."""
        example, model = sample.example, self.model
        if self.share.fits([row_length(example.segments, model.chat, model.image_tokens)]):
            return [sample]
        rows = split_row(example.segments, model.chat, model.image_tokens, self.share.token_budget)
        first = replace(example, segments=rows[0])
        later = [replace(example, segments=row, boxes=[], described=[]) for row in rows[1:]]
        return [replace(sample, example=part) for part in (first, *later)]

    def _split(self, samples: list[Sample]) -> list[list[Sample]]:
        """Samples in the order given where they fit together; else by length, so that little is padding."""

        def lengths(part: list[Sample]) -> list[int]:
            model = self.model
            return [row_length(one.example.segments, model.chat, model.image_tokens) for one in part]

        if self.share.fits(lengths(samples)):
            return [samples] if samples else []
        parts: list[list[Sample]] = []
        for sample in sorted(samples, key=lambda one: lengths([one]), reverse=True):
            if parts and self.share.fits(lengths([*parts[-1], sample])):
                parts[-1].append(sample)
            else:
                parts.append([sample])
        return parts

    def _micro(self, part: list[Sample], step: int, texts: dict[str, int] | None) -> MicroBatch:
        examples = [sample.example for sample in part]
        return MicroBatch(
            rows=[sample.row for sample in part],
            pixels=None if self.samples.features else torch.stack([sample.pixels for sample in part]),
            packed=self._pack([example.segments for example in examples]),
            regions=self._regions(examples, step) if self.distillation else None,
            pairs=None if texts is None else self._pairs(examples, texts),
        )

    def _pack(self, images: list[list[Segment]]) -> PackedBatch:
        return pack(images, self.model.chat, self.model.image_tokens, self.share.joined)

    def _texts(self, step: int) -> dict[str, int]:
        """The different texts of a whole step, on all ranks, each with its number."""
        mixture = self.samples.examples.mixture
        said = (text for row in self.order.rows(step) for _, text in described_boxes(mixture.row(row)))
        return {text: number for number, text in enumerate(dict.fromkeys(said))}

    def _pairs(self, examples: list[Example], texts: dict[str, int]) -> Pairs:
        """Described regions of a micro-batch, beside all ``texts`` of its step."""
        size, boxes, views, wanted = self.model.encoder.spec.image_size, [], [], []
        for view, example in enumerate(examples):
            for box, text in example.described:
                boxes.append(to_canvas(box, example.width, example.height, size))
                views.append(view)
                wanted.append(texts[text])
        places = torch.tensor(boxes).reshape(-1, 4), torch.tensor(views, dtype=torch.long)
        numbered = number_texts([self.model.chat.encode(text) for text in texts])
        return Pairs(*places, torch.tensor(wanted, dtype=torch.long), numbered)

    def _regions(self, examples: list[Example], step: int) -> Regions:
        size, views_an_image = self.model.encoder.spec.image_size, self.model.views
        boxes, views = [], []
        for number, example in enumerate(examples):
            salt = f"{self.order.seed}/{self.order.epoch(step)}/{example.key}"
            chosen = choose_regions(example.boxes, self.distillation.regions_per_image, salt)
            for box in chosen:
                wide = widen(box, self.distillation.context)
                canvas_box = to_canvas(wide, example.width, example.height, size)
                view, view_box = locate_view(canvas_box, size, self.model.tiles)
                boxes.append(view_box)
                views.append(number * views_an_image + view)
        return Regions(torch.tensor(boxes).reshape(-1, 4), torch.tensor(views, dtype=torch.long))


class Feed:
    """Batches by step; with ``workers``, processes of their own make those of the next steps ahead."""

    def __init__(self, batches: Batches, workers: int) -> None:
        self.batches, self.workers = batches, workers
        self.next, self.ahead = -1, iter(())

    def __getitem__(self, step: int) -> Batch:
        if not self.workers:
            return self.batches[step]
        if step != self.next:
            self.ahead = iter(self._loader(step))
        self.next = step + 1
        batch = next(self.ahead)
        if isinstance(batch, GranvitError):
            raise batch
        return batch

    def _loader(self, step: int) -> DataLoader:
        self.batches.order.draw_all()
        return DataLoader(
            _ErrorsAsValues(self.batches),
            batch_size=None,
            sampler=range(step, self.batches.order.steps),
            num_workers=self.workers,
            multiprocessing_context="fork",  # a worker has the mixture and the tokenizer as they are
            generator=torch.Generator(),  # a loader draws a seed, which must not come out of the run's
        )


@dataclass
class _ErrorsAsValues:
    """A DataLoader would wrap an error's message in the worker's traceback."""

    batches: Batches

    def __len__(self) -> int:
        return self.batches.order.steps

    def __getitem__(self, step: int) -> Batch | GranvitError:
        try:
            return self.batches[step]
        except GranvitError as error:
            return error


def choose_regions(boxes: list[list[float]], count: int, salt: str) -> list[list[float]]:
    """At most ``count`` of an image's boxes, chosen by hash: another choice each epoch, the same on every
    machine."""
    if len(boxes) <= count:
        return boxes
    return sorted(boxes, key=lambda box: hashlib.sha256(f"{salt}/{box}".encode()).digest())[:count]


def _hash_number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
