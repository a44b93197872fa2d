"""From a benchmark's row and an answer to the case that a scoring rule takes; which rows have a gold."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Sequence
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, Question
from granvit.evaluation.prompts import options
from granvit.evaluation.scoring import grounding

Answered = tuple[Question, str]

_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def golds(question: Question) -> list[str]:
    """The gold answers of a row: the TSV's cell, or the members of the list that it spells."""
    answer = question.cells.get("answer", "")
    if answer.startswith("["):
        with contextlib.suppress(ValueError, SyntaxError):  # it may merely start with a bracket
            return [str(member) for member in ast.literal_eval(answer)]
    return [answer]


def text_case(question: Question, prediction: str) -> dict[str, Any]:
    """A case of a rule that compares texts."""
    return {
        "prediction": prediction,
        "answers": golds(question),
        "category": question.cells.get("category", ""),
    }


def choice_case(question: Question, prediction: str) -> dict[str, Any]:
    """A case of a multiple-choice rule; ``choices`` is empty for an open question (MMMU)."""
    cells = question.cells
    return {
        "prediction": prediction,
        "choices": options(cells),
        "answers": [cells.get("answer", "")],
        "answer": cells.get("answer", ""),
        "question": cells["question"],
    }


def mathvista_case(question: Question, prediction: str) -> dict[str, Any]:
    """A case of MathVista's rule."""
    keys = ("question_type", "answer_type", "choices", "answer_option")
    return {
        "prediction": prediction,
        "answers": [question.cells.get("answer", "")],
        **{key: question.cells.get(key) for key in keys},
    }


def scorable(benchmark: Benchmark, answered: Sequence[Answered]) -> list[Answered]:
    """The answers whose questions have a gold; of MMVP's pairs, those of which both rows have one."""
    has_gold = [_has_gold(benchmark.rule, question) for question, _ in answered]
    if benchmark.rule == "mmvp_pair":
        has_gold = [all(has_gold[i - i % 2 : i - i % 2 + 2]) for i in range(len(has_gold))]
    kept = [pair for pair, keep in zip(answered, has_gold, strict=True) if keep]
    if not kept:
        raise GranvitError(
            f"{benchmark.tsv}: {benchmark.name}: no row has a gold answer (column answer); a test split "
            "without golds cannot be scored here: take the validation file that config/benchmarks.tsv names"
        )
    return kept


def _has_gold(rule: str, question: Question) -> bool:
    cells = question.cells
    if rule == "refcoco_iou50" and all(_is_there(cells.get(corner)) for corner in _CORNERS):
        return True
    if rule == "mathvista" and cells.get("question_type") == "multi_choice":
        return _is_there(cells.get("answer_option"))
    return _is_there(cells.get("answer"))


def _is_there(cell: str | None) -> bool:
    return cell is not None and cell.strip().lower() not in ("", "nan")


def gold_boxes(benchmark: Benchmark, questions: Sequence[Question]) -> list[list[float]]:
    """Gold boxes in pixels: columns bbox_x1 .. bbox_y2, else the answers, which are relative if none exceeds
    1.5.
    """
    if all(key in question.cells for question in questions for key in _CORNERS):
        return [[number(benchmark, question, key) for key in _CORNERS] for question in questions]
    boxes = []
    for question in questions:
        numbers = grounding.parse_numbers(question.cells.get("answer", ""))
        if numbers is None:
            raise GranvitError(
                f"{benchmark.tsv}: row {question.index}: answer holds no box; expected [x1, y1, x2, y2]"
            )
        boxes.append(numbers)
    if max(abs(value) for box in boxes for value in box) > grounding.LARGEST_RELATIVE:
        return boxes
    sizes = [[number(benchmark, q, "width"), number(benchmark, q, "height")] * 2 for q in questions]
    return [
        [value * side for value, side in zip(box, size, strict=True)]
        for box, size in zip(boxes, sizes, strict=True)
    ]


def number(benchmark: Benchmark, question: Question, key: str) -> float:
    """A cell that has to be a number."""
    try:
        return float(question.cells[key])
    except (KeyError, ValueError):
        shown = question.cells.get(key, "missing")
        raise GranvitError(
            f"{benchmark.tsv}: row {question.index}: {key} is {shown}; expected a number"
        ) from None
