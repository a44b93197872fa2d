"""What each benchmark's number is: from questions and answers to a score, by the benchmark's rule.

A scorer returns what its benchmark adds to the score file: ``score`` and ``n``, and perhaps ``splits`` or
``details``.
"""

from __future__ import annotations

import ast
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, Question
from granvit.evaluation.prompts import options
from granvit.evaluation.scoring import aggregates, apply, choices, grounding

NO_JUDGE = "none (rule-based)"  # the toolkit would ask a judge here
NOT_NEEDED = "not needed"
ROLLING = 1_000_000  # MMBench: rows whose index agrees modulo this are rollings of one question

Answered = tuple[Question, str]
Outcome = dict[str, Any]


def golds(question: Question) -> list[str]:
    """The gold answers of a row: the TSV's cell, or the members of the list that it spells."""
    answer = question.cells.get("answer", "")
    if answer.startswith("["):
        with contextlib.suppress(ValueError, SyntaxError):  # it may merely start with a bracket
            return [str(member) for member in ast.literal_eval(answer)]
    return [answer]


def _text_case(question: Question, prediction: str) -> dict[str, Any]:
    return {
        "prediction": prediction,
        "answers": golds(question),
        "category": question.cells.get("category", ""),
    }


def _choice_case(question: Question, prediction: str) -> dict[str, Any]:
    cells = question.cells
    return {
        "prediction": prediction,
        "choices": options(cells),
        "answers": [cells.get("answer", "")],
        "answer": cells.get("answer", ""),
        "question": cells["question"],
    }


def _mathvista_case(question: Question, prediction: str) -> dict[str, Any]:
    keys = ("question_type", "answer_type", "choices", "answer_option")
    return {
        "prediction": prediction,
        "answers": [question.cells.get("answer", "")],
        **{key: question.cells.get(key) for key in keys},
    }


def _average(rule: str, case: Callable[[Question, str], Mapping[str, Any]]) -> Callable[..., Outcome]:
    """A scorer that is the mean of a rule of one answer, with the mean per `split` where the file has
    several.
    """

    def scorer(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
        scale = 1000 if benchmark.name == "OCRBench" else 100
        values = [scale * float(apply(rule, case(question, text))) for question, text in answered]
        return {"score": _mean(values), "n": len(values), **_splits(answered, values)}

    return scorer


def _splits(answered: Sequence[Answered], values: Sequence[float]) -> Outcome:
    groups: dict[str, list[float]] = defaultdict(list)
    for (question, _), value in zip(answered, values, strict=True):
        groups[question.cells.get("split", "")].append(value)
    if len(groups) < 2:
        return {}
    return {"splits": {name: {"score": _mean(group), "n": len(group)} for name, group in groups.items()}}


def _multiple_choice(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
    """Accuracy; where the benchmark is some categories of a file (BLINK*), their macro mean, with each beside
    it.
    """
    hits = [100.0 * apply("multiple_choice", _choice_case(*pair)) for pair in answered]
    if not benchmark.categories:
        return {"score": _mean(hits), "n": len(hits)}
    groups: dict[str, list[float]] = {category: [] for category in benchmark.categories}
    for (question, _), hit in zip(answered, hits, strict=True):
        groups[question.cells["category"].replace(" ", "_")].append(hit)
    absent = [category for category, group in groups.items() if not group]
    if absent:
        raise GranvitError(
            f"{benchmark.tsv}: {benchmark.name}: no question of category {absent[0]}; fetch the file again"
        )
    details = {category: _mean(group) for category, group in groups.items()}
    return {
        "score": _mean(list(details.values())),
        "n": len(hits),
        "details": {**details, "micro": _mean(hits)},
    }


def _mmmu(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
    hits = []
    for question, text in answered:
        case = _choice_case(question, text)
        rule = "multiple_choice" if case["choices"] else "mmmu_open"
        hits.append(100.0 * apply(rule, {**case, "tsv_answer": case["answer"]}))
    return {"score": _mean(hits), "n": len(hits)}


def _refcoco(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
    """Precision at IoU 0.5 per split; the benchmark's score is their macro mean."""
    boxes = _gold_boxes(benchmark, [question for question, _ in answered])
    groups: dict[str, list[int]] = defaultdict(list)
    for (question, text), box in zip(answered, boxes, strict=True):
        width, height = _number(benchmark, question, "width"), _number(benchmark, question, "height")
        case = {"prediction": text, "answers": [box], "width": width, "height": height}
        groups[question.cells["split"]].append(apply("refcoco_iou50", case))
    splits = {name: {"score": 100 * _mean(hits), "n": len(hits)} for name, hits in groups.items()}
    return {
        "score": _mean([split["score"] for split in splits.values()]),
        "n": len(answered),
        "splits": splits,
    }


def _gold_boxes(benchmark: Benchmark, questions: Sequence[Question]) -> list[list[float]]:
    """Gold boxes in pixels: columns bbox_x1 .. bbox_y2, else the answers, which are relative if none exceeds
    1.5.
    """
    keys = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    if all(key in question.cells for question in questions for key in keys):
        return [[_number(benchmark, question, key) for key in keys] for question in questions]
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
    sizes = [[_number(benchmark, q, "width"), _number(benchmark, q, "height")] * 2 for q in questions]
    return [
        [value * side for value, side in zip(box, size, strict=True)]
        for box, size in zip(boxes, sizes, strict=True)
    ]


def _number(benchmark: Benchmark, question: Question, key: str) -> float:
    try:
        return float(question.cells[key])
    except (KeyError, ValueError):
        shown = question.cells.get(key, "missing")
        raise GranvitError(
            f"{benchmark.tsv}: row {question.index}: {key} is {shown}; expected a number"
        ) from None


def _mmvp(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
    """Plain accuracy, which alone can be the paper's 61-69; pair accuracy beside it."""
    result = aggregates.mmvp([_choice_case(*pair) for pair in answered])
    details = {"pair_accuracy": 100 * result["pair_accuracy"]}
    return {"score": 100 * result["accuracy"], "n": len(answered), "details": details}


def _mmbench(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
    """Share of questions of which every rolling is right; ``n`` counts questions, not rows."""
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for question, text in answered:
        if not question.index.isdigit():
            raise GranvitError(
                f"{benchmark.tsv}: index {question.index} is no number; rollings are found by it"
            )
        groups[int(question.index) % ROLLING].append(_choice_case(question, text))
    hits = [100.0 * apply("mmbench_circular", {"rows": rows}) for rows in groups.values()]
    plain = [100.0 * apply("multiple_choice", case) for rows in groups.values() for case in rows]
    return {
        "score": _mean(hits),
        "n": len(hits),
        "details": {"plain_accuracy": _mean(plain), "rows": len(plain)},
    }


def _hallusion(benchmark: Benchmark, answered: Sequence[Answered]) -> Outcome:
    """Mean of aAcc, fAcc and qAcc; an index ends in ``_{set}_{figure}_{question}``."""
    rows = []
    for question, text in answered:
        parts = question.index.split("_")
        if len(parts) < 6:
            raise GranvitError(
                f"{benchmark.tsv}: index {question.index} lacks set, figure and question; expected "
                "a_VD_kind_set_figure_question"
            )
        rows.append({
            "l2_category": question.cells.get("l2-category", ""),
            "set_id": parts[3], "figure_id": parts[4], "question_id": parts[5],
            "answer": question.cells.get("answer", ""), "prediction": text,
        })  # fmt: skip
    details = apply("hallusion_aggregate", {"rows": rows})
    return {"score": _mean(list(details.values())), "n": len(rows), "details": details}


SCORERS: dict[str, Callable[[Benchmark, Sequence[Answered]], Outcome]] = {
    **{
        rule: _average(rule, _text_case)
        for rule in (
            "anls",
            "relaxed_accuracy",
            "vqa_accuracy",
            "exact_match",
            "ocrbench_contains",
            "mmvet_contains",
        )
    },
    "mathvista": _average("mathvista", _mathvista_case),
    "multiple_choice": _multiple_choice,
    "mmmu": _mmmu,
    "refcoco_iou50": _refcoco,
    "mmvp_pair": _mmvp,
    "mmbench_circular": _mmbench,
    "hallusion_aggregate": _hallusion,
}


def _choice_read(question: Question, text: str) -> bool:
    answers = options(question.cells) or {"A": question.cells.get("answer", ""), "B": choices.OTHER_ANSWERS}
    return choices.infer_choice(text, answers) not in (None, choices.NO_OPTION)


# Rules that read something out of an answer: whether it could be read, and whether the toolkit would ask a
# judge.
READABLE: dict[str, tuple[Callable[[Question, str], bool] | None, str]] = {
    **dict.fromkeys(("multiple_choice", "mmmu", "mmvp_pair", "mmbench_circular"), (_choice_read, NO_JUDGE)),
    "hallusion_aggregate": (lambda question, text: choices.yes_or_no(text) != "Unknown", NO_JUDGE),
    "mathvista": (
        lambda question, text: choices.mathvista_extracted(_mathvista_case(question, text)),
        NO_JUDGE,
    ),
    "mmvet_contains": (None, NO_JUDGE),
    "refcoco_iou50": (lambda question, text: grounding.parse_numbers(text) is not None, NOT_NEEDED),
}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
