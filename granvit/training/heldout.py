"""What a run has learnt, measured on held-out images (Fig. 4a): loss a task, ROUGE-L of captions,
ACC@IoU0.5 of boxes."""

from __future__ import annotations

from pathlib import Path

import torch

from granvit.boxes import iou, parse_box
from granvit.models.mllm import MLLM
from granvit.models.packing import pack
from granvit.training.examples import Example, Examples, Mixture
from granvit.training.images import ImageStore
from granvit.training.stages import BBOX2CAPTION, CAPTION2BBOX, REGION_TASKS

METRICS = ("heldout_loss_bbox2caption", "heldout_loss_caption2bbox", "heldout_rouge_l", "heldout_acc_iou50")
IMAGES_A_BATCH = 8
QUESTIONS_A_BATCH = 64
SPARE_TOKENS = 4  # beyond the longest true answer, so that an answer that goes on too long is seen as wrong


class HeldOut:
    """The first ``images`` rows of the held-out mixture (sorted by key hash: a random sample), ready to
    be asked about."""

    def __init__(self, path: Path, model: MLLM, images: int) -> None:
        mixture = Mixture(path)
        store, examples = (
            ImageStore(mixture, model, keep=False),
            Examples(mixture, model, REGION_TASKS, keep=False),
        )
        self.model = model
        rows = range(min(images, len(mixture)))
        self.batches = [
            ([examples[row] for row in part], torch.stack([store[row] for row in part]))
            for part in (
                rows[begin : begin + IMAGES_A_BATCH] for begin in range(0, len(rows), IMAGES_A_BATCH)
            )
        ]

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """METRICS by name: mean cross-entropy of supervised tokens, mean ROUGE-L (0-1), share of boxes
        with IoU >= 0.5 (0-1)."""
        losses: dict[str, list[torch.Tensor]] = {task: [] for task in REGION_TASKS}
        asked: dict[str, list[tuple[Example, int, torch.Tensor]]] = {task: [] for task in REGION_TASKS}
        training = self.model.training
        self.model.eval()
        for examples, pixels in self.batches:
            embeddings = self.model.encode_images(pixels)
            for task, values in self._losses(examples, embeddings).items():
                losses[task].append(values)
            for example, embedding in zip(examples, embeddings, strict=True):
                for number, task in enumerate(example.tasks):
                    asked[task].append((example, number, embedding))
        scores = [_mean(torch.cat(losses[task]).tolist() if losses[task] else []) for task in REGION_TASKS]
        scores.append(self._mean_score(asked[BBOX2CAPTION], _RougeL()))
        scores.append(self._mean_score(asked[CAPTION2BBOX], _box_found))
        self.model.train(training)
        return dict(zip(METRICS, scores, strict=True))

    def _losses(self, examples: list[Example], embeddings: torch.Tensor) -> dict[str, torch.Tensor]:
        packed = pack([example.segments for example in examples], self.model.chat, self.model.image_tokens)
        packed = packed.to(self.model.device)
        values = self.model.token_losses(embeddings, packed).cpu()
        tasks = [task for example in examples for task in example.tasks]
        of_token = torch.tensor([REGION_TASKS.index(task) for task in tasks])[packed.segment_index.cpu()]
        return {task: values[of_token == number] for number, task in enumerate(REGION_TASKS)}

    def _mean_score(self, asked: list[tuple[Example, int, torch.Tensor]], score) -> float:
        longest = max((example.segments[number].supervised for example, number, _ in asked), default=0)
        scores = []
        for begin in range(0, len(asked), QUESTIONS_A_BATCH):
            part = asked[begin : begin + QUESTIONS_A_BATCH]
            questions = [example.questions[number] for example, number, _ in part]
            features = torch.stack([embedding for _, _, embedding in part])
            answers = self.model.answer(features, questions, longest + SPARE_TOKENS)
            scores += [
                score(example, number, answer)
                for (example, number, _), answer in zip(part, answers, strict=True)
            ]
        return _mean(scores)


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
