"""Ask one model about regions of held-out images (Figs. 4b, 10 to 13): greedy answers, measured as training
measures them (IoU of boxes, ROUGE-L of captions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from granvit.boxes import from_relative, iou, parse_box
from granvit.device import pick_device
from granvit.evaluation.asks import Ask
from granvit.evaluation.heldout_questions import (
    HeldOutAnswer,
    HeldOutQuestion,
    choose_questions,
    write_answers,
)
from granvit.evaluation.heldout_regions import BBOX2CAPTION, HeldOutImage
from granvit.evaluation.predict import WINDOW, Pictures, answer_window
from granvit.evaluation.scoring.texts import rouge_l
from granvit.models.mllm import MLLM
from granvit.progress import Progress

SPARE_TOKENS = 4  # beyond the longest true answer of a task, as in training's own measure


def answer_heldout(
    model_dir: Path,
    mixture: Path,
    data_types: Mapping[str, str],
    number: int,
    out: Path,
    batch_size: int,
    device: str,
    log: Path | None = None,
) -> None:
    """Write a model's answers to the questions that ``choose_questions`` finds, in their order.

    ``batch_size``: questions at once; it changes no answer. Raises GranvitError for a model, a mixture or an
    image that cannot be read.
    """
    questions = choose_questions(mixture, data_types, number)
    model = MLLM.load(model_dir, pick_device(device))
    progress = Progress(len(questions), f"held-out answers {out.parent.name} {out.stem}", "questions", log)
    asks, answers = make_asks(model, questions), {}
    images = {question.image.key: question.image for question in questions}
    for batch, texts in answer_regions(Pictures(model, mixture, asks), images, asks, batch_size):
        answers |= zip(batch, texts, strict=True)
        progress.update(len(answers))
    write_answers(out, (measured(of, answers[ask]) for of, ask in zip(questions, asks, strict=True)))


def make_asks(model: MLLM, questions: Sequence[HeldOutQuestion]) -> list[Ask]:
    """Each question as the model gets it; an answer may be a little longer than the task's longest true
    one, so that one that goes on too long is seen as wrong."""
    longest: dict[str, int] = {}
    for question in questions:
        tokens = model.chat.segment(question.text, question.expected).supervised
        longest[question.task] = max(longest.get(question.task, 0), tokens)
    return [
        Ask(of.task, of.index, of.text, (of.image.key,), longest[of.task] + SPARE_TOKENS) for of in questions
    ]


@torch.inference_mode()
def answer_regions(
    pictures: Pictures, images: Mapping[str, HeldOutImage], asks: Sequence[Ask], batch_size: int
) -> Iterator[tuple[list[Ask], list[str]]]:
    """Batches of questions and their answers; each of the ``images``, by key, is read and encoded once."""
    for window in _windows(asks, WINDOW * batch_size):
        keys = dict.fromkeys(key for ask in window for key in ask.images)
        pictures.data |= {key: images[key].read() for key in keys}
        pictures.open(window)
        for batch, answers, _ in answer_window(pictures, window, batch_size):
            yield batch, answers
        pictures.release(window)


def _windows(asks: Iterable[Ask], size: int) -> Iterator[list[Ask]]:
    """About ``size`` questions at a time, all on an image together."""
    of_image: dict[tuple[str, ...], list[Ask]] = {}
    for ask in asks:
        of_image.setdefault(ask.images, []).append(ask)
    window: list[Ask] = []
    for group in of_image.values():
        window += group
        if len(window) >= size:
            yield window
            window = []
    if window:
        yield window


def measured(question: HeldOutQuestion, answer: str) -> HeldOutAnswer:
    """A line of the file. IoU is that of the relative boxes as written, as training measures it."""
    image, region = question.image, question.image.regions[question.region]
    captions = question.task == BBOX2CAPTION
    predicted = None if captions else parse_box(answer)
    true = None if captions else parse_box(question.expected)
    box = predicted and [round(value, 2) for value in from_relative(predicted, image.width, image.height)]
    return HeldOutAnswer(
        image.key, question.region, image.source, question.data_type, image.width, image.height,
        question.task, question.text, region.text, region.box, answer, box,
        iou=None if captions else iou(predicted, true) if predicted and true else 0.0,
        rouge_l=float(rouge_l(answer, [question.expected])) if captions else None,
    )  # fmt: skip
