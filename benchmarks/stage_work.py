"""What the benchmarks of training share: a clock that waits for the device, a mixture of real JPEG images,
the order of its rows, the trainer that a run would have, and one sample a question-answer pair to compare
packing with."""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from PIL import Image

from granvit.config.compute import RunCompute
from granvit.data.mixtures.mixture_file import MIXTURE_SCHEMA
from granvit.models.attention import joins_images
from granvit.models.mllm import MLLM
from granvit.models.packing import row_length
from granvit.training.batches import Batches, Samples, Share, choose_regions
from granvit.training.engine import Cluster
from granvit.training.examples import Example, Examples, Mixture
from granvit.training.images import ImageStore
from granvit.training.loop import Trainer
from granvit.training.speed import prepare_model
from granvit.training.stages import STAGES

GIB = 1 << 30


class Clock:
    """Wall time of work on ``device``, waited for."""

    def __init__(self, device: torch.device) -> None:
        self.backend = None if device.type == "cpu" else getattr(torch, device.type)

    def __call__(self, work: Callable) -> tuple[float, object]:
        self.wait()
        begin = time.perf_counter()
        result = work()
        self.wait()
        return time.perf_counter() - begin, result

    def wait(self) -> None:
        if self.backend:
            self.backend.synchronize()

    def forget_peak(self) -> None:
        """Give memory back and measure the peak from here on."""
        gc.collect()
        if hasattr(self.backend, "reset_peak_memory_stats"):
            self.backend.empty_cache()
            self.backend.reset_peak_memory_stats()

    def peak(self) -> float | None:
        """GiB that tensors took at most; None where nobody counts them (a CPU)."""
        counts = hasattr(self.backend, "max_memory_allocated")
        return self.backend.max_memory_allocated() / GIB if counts else None


def write_mixture(folder: Path, samples: Iterable[tuple[Image.Image, list[dict]]]) -> Mixture:
    """Images as JPEG in one file, each with its question-answer pairs, as a mixture in the order given."""
    shard, rows = folder / "images.tar", []
    with shard.open("wb") as file:
        for number, (image, pairs) in enumerate(samples):
            data = io.BytesIO()
            image.save(data, "JPEG", quality=90)
            rows.append(
                {
                    "key": f"bench-{number:06d}", "shard": str(shard), "offset": file.tell(),
                    "size": data.tell(), "width": image.width, "height": image.height, "qa": pairs,
                }
            )  # fmt: skip
            file.write(data.getvalue())
    parquet.write_table(pa.Table.from_pylist(rows, MIXTURE_SCHEMA), folder / "mixture.parquet")
    return Mixture(folder / "mixture.parquet")


def pair(task: str, question: str, answer: str, box: list[float] | None = None) -> dict:
    """One entry of a mixture's ``qa``."""
    return {"task": task, "question": question, "answer": answer, "box": box}


@dataclass
class InOrder:
    """Rows as they stand in the mixture, over and over: each step then holds as many regions as the one
    before, which a permutation (training's own order) would not give."""

    images: int
    batch_size: int
    seed: int = 0
    steps: int = 1 << 20

    def rows(self, step: int) -> list[int]:
        begin = step * self.batch_size
        return [number % self.images for number in range(begin, begin + self.batch_size)]

    def epoch(self, step: int) -> int:
        return step * self.batch_size // self.images

    def draw_all(self) -> None:
        """Nothing is drawn."""


@dataclass(frozen=True)
class PairRow:
    """One question-answer pair as a row of its own. ``box``: its region where the image distils it."""

    image: int
    number: int
    box: tuple[float, ...] | None


class PairOrder(InOrder):
    """The same images a step as ``batches`` has, one row for each of their pairs."""

    def __init__(self, batches: Batches) -> None:
        order = batches.order
        super().__init__(order.images, order.batch_size, order.seed, order.steps)
        self.mixture, self.distillation = batches.samples.examples.mixture, batches.distillation

    def rows(self, step: int) -> list[PairRow]:
        rows = []
        for image in super().rows(step):
            row = self.mixture.row(image)
            boxes = [tuple(one["box"]) if one["box"] else None for one in row["qa"]]
            left = self._distilled(boxes, f"{self.seed}/{self.epoch(step)}/{row['key']}")
            # Two pairs may ask about one region, which is distilled once.
            rows += [PairRow(image, number, left.pop(box, None)) for number, box in enumerate(boxes)]
        return rows

    def _distilled(self, boxes: list, salt: str) -> dict:
        """The regions that the packed run distils: Batches draws them by the same salt."""
        distinct = [list(box) for box in dict.fromkeys(boxes) if box]
        count = self.distillation.regions_per_image if self.distillation else 0
        return {tuple(box): tuple(box) for box in choose_regions(distinct, count, salt)}


class PairExamples:
    """Examples of one pair each. An image's rows are asked for one after the other, so it is read once."""

    def __init__(self, examples: Examples) -> None:
        self.whole = lru_cache(maxsize=1)(examples.__getitem__)

    def __getitem__(self, row: PairRow) -> Example:
        whole, chosen = self.whole(row.image), slice(row.number, row.number + 1)
        return replace(
            whole, segments=whole.segments[chosen], tasks=whole.tasks[chosen],
            questions=whole.questions[chosen], answers=whole.answers[chosen],
            boxes=[list(row.box)] if row.box else [],
        )  # fmt: skip


class PairImages:
    """Each pair's copy of its image's pixels, decoded once for all of them."""

    def __init__(self, images: ImageStore) -> None:
        self.pixels = lru_cache(maxsize=1)(images.__getitem__)

    def __getitem__(self, row: PairRow) -> torch.Tensor:
        return self.pixels(row.image)


def apart(batches: Batches, token_budget: int | None) -> Batches:
    """The same images, pairs and distilled regions as ``batches``, one row a pair.

    A micro-batch holds at most ``token_budget`` positions; None: as many as the longest of ``batches``' first
    round through the mixture, so that the memory that packing takes is enough. Rows are then sorted by
    length, so little is padding.
    """
    order, chat, tokens = batches.order, batches.model.chat, batches.model.image_tokens
    examples, images = batches.samples.examples, batches.samples.images
    longest = max(row_length(examples[row].segments, chat, tokens) for row in range(order.images))
    samples = Samples(PairExamples(examples), PairImages(images))
    share = Share(token_budget=token_budget or longest * order.batch_size, joined=batches.share.joined)
    return Batches(samples, PairOrder(batches), batches.model, batches.distillation, share)


def make_trainer(
    model: MLLM,
    recipe,
    mixture: Mixture,
    device: torch.device,
    compute: RunCompute,
    packed: bool,
    keep: bool,
    token_budget: int | None = None,
    steps: int = 1 << 20,
) -> Trainer:
    """The trainer of a run of ``recipe`` on ``mixture`` in its order, its micro-batch the whole batch.

    ``keep``: decoded pixels and tokens are remembered, as in a run of several epochs; ``token_budget``: see
    ``apart``; ``steps``: over which the learning rate rises and falls, by default more than anybody takes.
    """
    examples = Examples(mixture, model, STAGES[recipe.stage].tasks, keep)
    samples = Samples(examples, ImageStore(mixture, model, keep))
    order = InOrder(len(mixture), recipe.batch_size, steps=steps)
    prepare_model(model, recipe, compute, device)
    share = Share(joined=joins_images(model.llm))
    batches = Batches(samples, order, model, recipe.distillation, share)
    cluster = Cluster(str(device), "ddp", recipe)
    batches = batches if packed else apart(batches, token_budget)
    return Trainer(model, recipe, batches, cluster, compute)
