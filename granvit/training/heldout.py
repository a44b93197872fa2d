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
NO_TASK = -1  # of tokens that do not count
IMAGES_A_BATCH = 8
QUESTIONS_A_BATCH = 64
SPARE_TOKENS = 4  # beyond the longest true answer, so that an answer that goes on too long is seen as wrong

Asked = tuple[Example, int, torch.Tensor]  # an image's text, the number of a question, the image's embeddings


class HeldOut:
    """The first ``images`` rows of the held-out mixture (sorted by key hash: a random sample), ready to
    be asked about; the ranks of ``cluster`` share them. ``precision``: as the run computes, fp32 or bf16;
    ``token_budget``: positions that may be computed at once.

    ZeRO-3 collects weights from all ranks at every layer, so that they have to go through the same layers
    together: a rank that has less than another repeats some of its own, which does not count.
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
        self.in_step = cluster.zero == 3
        rows = range(min(images, len(mixture)))
        self.longest = _longest_answers(examples[row] for row in rows)
        own = [*rows[cluster.rank :: cluster.size]]
        repeats = self.in_step and len(own) < len(rows[:: cluster.size])
        own += rows[:1] if repeats else []
        self.batches = [
            ([examples[row] for row in part], torch.stack([store[row] for row in part]))
            for part in (own[begin : begin + IMAGES_A_BATCH] for begin in range(0, len(own), IMAGES_A_BATCH))
        ]
        self.repeated = self.batches[-1][0][-1] if repeats else None

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
        parts = self.cluster.gather([values])
        values = [[value for part in parts for value in part[number]] for number in range(len(METRICS))]
        return {name: _mean(found) for name, found in zip(METRICS, values, strict=True)}

    def _values(self) -> list[list[float]]:
        """What each of METRICS is the mean of, on this rank's images."""
        losses: dict[str, list[float]] = {task: [] for task in REGION_TASKS}
        asked: dict[str, list[Asked]] = {task: [] for task in REGION_TASKS}
        again: list[Asked] = []
        for examples, pixels in self.batches:
            embeddings = self.model.encode_images(pixels)
            for task, values in self._losses(examples, embeddings).items():
                losses[task] += values.tolist()
            for example, embedding in zip(examples, embeddings, strict=True):
                for number, task in enumerate(example.tasks if example is not self.repeated else ()):
                    asked[task].append((example, number, embedding))
            again = [(examples[0], 0, embeddings[0])]
        scores = [
            self._scores(asked[task], again, self.longest[task] + SPARE_TOKENS, score)
            for task, score in ((BBOX2CAPTION, _RougeL()), (CAPTION2BBOX, _box_found))
        ]
        return [*(losses[task] for task in REGION_TASKS), *scores]

    def _losses(self, examples: list[Example], embeddings: torch.Tensor) -> dict[str, torch.Tensor]:
        tasks = iter(
            REGION_TASKS.index(task) if example is not self.repeated else NO_TASK
            for example in examples
            for task in example.tasks
        )
        values, numbers = [], []
        parts = [*self._parts(examples, embeddings)]
        for rows, images in self._as_often(parts, parts[-1]):
            packed = pack(rows, self.model.chat, self.model.image_tokens).to(self.model.device)
            values.append(self.model.token_losses(images, packed).cpu())
            asked = torch.tensor([next(tasks, NO_TASK) for row in rows for _ in row])
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

    def _scores(self, asked: list[Asked], again: list[Asked], limit: int, score: Callable) -> list[float]:
        """The score of each answer of at most ``limit`` tokens; an image is read once for all questions of a
        batch that are about it. ``again``: what is asked while only other ranks have questions."""
        parts = [
            asked[begin : begin + QUESTIONS_A_BATCH] for begin in range(0, len(asked), QUESTIONS_A_BATCH)
        ]
        scores = []
        for part in self._as_often(parts, again):
            images = {id(example): embedding for example, _, embedding in part}
            owners = [[*images].index(id(example)) for example, _, _ in part]
            questions = [example.questions[number] for example, number, _ in part]
            pictures = torch.stack([*images.values()])
            answers = self.model.answer(pictures, questions, limit, owners, go_on=self._go_on())
            scores += [
                score(example, number, answer)
                for (example, number, _), answer in zip(part, answers, strict=True)
            ]
        return scores[: len(asked)]

    def _as_often(self, parts: list, again) -> list:
        """``parts``; where ranks go in step, with ``again`` until there are as many as on any of them."""
        return parts + [again] * (self.cluster.max(len(parts)) - len(parts)) if self.in_step else parts

    def _go_on(self) -> Callable[[bool], bool] | None:
        """What ``generate`` asks in every step: does any rank go on?"""
        return (lambda working: bool(self.cluster.max(int(working)))) if self.in_step else None


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
