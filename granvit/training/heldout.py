"""What a run has learnt, measured on held-out images (Fig. 4a): loss a task, ROUGE-L of captions,
ACC@IoU0.5 of boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from granvit.boxes import iou, parse_box
from granvit.device import autocast
from granvit.models.mllm import MLLM
from granvit.models.packing import Segment, pack, row_length, split_row
from granvit.training.engine import Cluster
from granvit.training.examples import Example, Examples, Mixture
from granvit.training.images import ImageStore
from granvit.training.stages import BBOX2CAPTION, CAPTION2BBOX, REGION_TASKS

METRICS = ("heldout_loss_bbox2caption", "heldout_loss_caption2bbox", "heldout_rouge_l", "heldout_acc_iou50")
IMAGES_A_BATCH = 8
QUESTIONS_A_BATCH = 64
SPARE_TOKENS = 4  # beyond the longest true answer, so that an answer that goes on too long is seen as wrong

Asked = tuple[Example, int, torch.Tensor]  # an image's text, the number of a question, the image's embeddings


class HeldOut:
    """The first ``images`` rows of the held-out mixture (sorted by key hash: a random sample), ready to
    be asked about; the ranks of ``cluster`` share them. ``precision``: as the run computes, fp32 or bf16;
    ``token_budget``: positions that may be computed at once.

    ZeRO-3 collects weights from all ranks at every layer, so that they have to go through the same layers
    together: each rank then asks everything.
    """

    def __init__(
        self,
        path: Path,
        model: MLLM,
        images: int,
        precision: str,
        cluster: Cluster,
        token_budget: int = 1 << 30,
    ) -> None:
        mixture = Mixture(path)
        store, examples = (
            ImageStore(mixture, model, keep=False),
            Examples(mixture, model, REGION_TASKS, keep=False),
        )
        self.model, self.precision, self.cluster = model, precision, cluster
        self.token_budget = token_budget
        self.shares = cluster.zero < 3
        rows = range(min(images, len(mixture)))
        self.longest = _longest_answers(examples[row] for row in rows)
        own = rows[cluster.rank :: cluster.size] if self.shares else rows
        self.batches = [
            ([examples[row] for row in part], torch.stack([store[row] for row in part]))
            for part in (own[begin : begin + IMAGES_A_BATCH] for begin in range(0, len(own), IMAGES_A_BATCH))
        ]

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """METRICS by name: mean cross-entropy of supervised tokens, mean ROUGE-L (0-1), share of boxes
        with IoU >= 0.5 (0-1); the same on every rank."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        with autocast(self.model.device, self.precision):
            values = self._values()
        for module, training in modes.items():
            module.training = training
        if self.shares:
            parts = self.cluster.gather([values])
            values = [[value for part in parts for value in part[number]] for number in range(len(METRICS))]
        return {name: _mean(found) for name, found in zip(METRICS, values, strict=True)}

    def _values(self) -> list[list[float]]:
        """What each of METRICS is the mean of, on this rank's images."""
        losses: dict[str, list[float]] = {task: [] for task in REGION_TASKS}
        asked: dict[str, list[Asked]] = {task: [] for task in REGION_TASKS}
        for examples, pixels in self.batches:
            embeddings = self.model.encode_images(pixels)
            for task, values in self._losses(examples, embeddings).items():
                losses[task] += values.tolist()
            for example, embedding in zip(examples, embeddings, strict=True):
                for number, task in enumerate(example.tasks):
                    asked[task].append((example, number, embedding))
        scores = [
            self._scores(asked[task], self.longest[task] + SPARE_TOKENS, score)
            for task, score in ((BBOX2CAPTION, _RougeL()), (CAPTION2BBOX, _box_found))
        ]
        return [*(losses[task] for task in REGION_TASKS), *scores]

    def _losses(self, examples: list[Example], embeddings: torch.Tensor) -> dict[str, torch.Tensor]:
        tasks = iter(task for example in examples for task in example.tasks)
        values, numbers = [], []
        for rows, images in self._parts(examples, embeddings):
            packed = pack(rows, self.model.chat, self.model.image_tokens).to(self.model.device)
            values.append(self.model.token_losses(images, packed).cpu())
            asked = torch.tensor([REGION_TASKS.index(next(tasks)) for row in rows for _ in row])
            numbers.append(asked[packed.segment_index.cpu()])
        losses, of_token = torch.cat(values), torch.cat(numbers)
        return {task: losses[of_token == number] for number, task in enumerate(REGION_TASKS)}

    def _parts(
        self, examples: list[Example], embeddings: torch.Tensor
    ) -> Iterator[tuple[list[list[Segment]], torch.Tensor]]:
        """Rows that may be computed at once, with the embeddings of each row's image: those of all
        ``examples``, or one by one where they are too long together."""
        sizes = self.model.chat, self.model.image_tokens
        longest = max(row_length(example.segments, *sizes) for example in examples)
        if longest * len(examples) <= self.token_budget:
            yield [example.segments for example in examples], embeddings
            return
        for example, embedding in zip(examples, embeddings, strict=True):
            for row in split_row(example.segments, *sizes, self.token_budget):
                yield [row], embedding[None]

    def _scores(self, asked: list[Asked], limit: int, score: Callable) -> list[float]:
        """The score of each answer of at most ``limit`` tokens; an image is read once for all questions of a
        batch that are about it."""
        scores = []
        for begin in range(0, len(asked), QUESTIONS_A_BATCH):
            part = asked[begin : begin + QUESTIONS_A_BATCH]
            images = {id(example): embedding for example, _, embedding in part}
            owners = [[*images].index(id(example)) for example, _, _ in part]
            questions = [example.questions[number] for example, number, _ in part]
            answers = self.model.answer(torch.stack([*images.values()]), questions, limit, owners)
            scores += [
                score(example, number, answer)
                for (example, number, _), answer in zip(part, answers, strict=True)
            ]
        return scores


def _longest_answers(examples: Iterable[Example]) -> dict[str, int]:
    """The most supervised tokens of an answer, by task."""
    longest = dict.fromkeys(REGION_TASKS, 0)
    for example in examples:
        for task, segment in zip(example.tasks, example.segments, strict=True):
            longest[task] = max(longest[task], segment.supervised)
    return longest


class _RougeL:
    def __init__(self) -> None:
        from rouge_score.rouge_scorer import RougeScorer  # costs two seconds, and most runs hold nothing out

        self.scorer = RougeScorer(["rougeL"])

    def __call__(self, example: Example, number: int, answer: str) -> float:
        return self.scorer.score(example.answers[number], answer)["rougeL"].fmeasure


def _box_found(example: Example, number: int, answer: str) -> float:
    predicted, true = parse_box(answer), parse_box(example.answers[number])
    return float(predicted is not None and true is not None and iou(predicted, true) >= 0.5)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
