"""What each benchmark's number is: from questions and answers to a score, by the benchmark's rule.

A scorer returns a `Scored`: the score, what its benchmark adds to the score file, and the points that the
score is a mean of, from which its uncertainty follows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, Question
from granvit.evaluation.cases import (
    Answered,
    choice_case,
    gold_boxes,
    golds,
    mathvista_case,
    number,
    text_case,
)
from granvit.evaluation.scoring import aggregates, apply

__all__ = ["SCORERS", "Point", "Scored", "golds"]

ROLLING = 1_000_000  # MMBench: rows whose index agrees modulo this are rollings of one question
FORMULAS_AND_TEXT = "Recognition"  # OCRBench: categories that end so (but for formulas) make Text Recognition

Marks = Mapping[str, float]  # a judge's marks, 0-1, by index


@dataclass(frozen=True)
class Point:
    """One value (0-1) that a score is made of: the mean over parts of the means of their points.

    ``unit``: what is drawn together when the score's uncertainty is estimated: questions on the same images,
    a pair, a set.
    """

    unit: str
    part: str
    value: float


@dataclass(frozen=True)
class Scored:
    """A score in percent (OCRBench: out of 1000), over ``n`` questions, with its points; ``extra``: `splits`
    and `details` of the score file.
    """

    score: float
    n: int
    points: list[Point]
    extra: dict[str, Any] = field(default_factory=dict)


Scorer = Callable[[Benchmark, Sequence[Answered], Marks], Scored]


def unit_of(question: Question) -> str:
    """Questions on the same images rise and fall together."""
    return "|".join(map(str, question.images)) or question.index


def full_score(benchmark: Benchmark) -> int:
    """What a score of all right answers is."""
    return 1000 if benchmark.name == "OCRBench" else 100


def _average(rule: str, case: Callable[[Question, str], Mapping[str, Any]]) -> Scorer:
    """A scorer that is the mean of a rule of one answer, or of a judge's marks where there are any, with the
    mean per `split` where the file has several.
    """

    def scorer(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
        def value(question: Question, text: str) -> float:
            mark = marks.get(question.index)
            return float(apply(rule, case(question, text))) if mark is None else mark

        points = [Point(unit_of(question), "", value(question, text)) for question, text in answered]
        values = [full_score(benchmark) * point.value for point in points]
        extra = _splits(answered, values)
        if rule == "ocrbench_contains":
            extra["details"] = _ocrbench_totals(answered, points)
        return Scored(_mean(values), len(values), points, extra)

    return scorer


def _splits(answered: Sequence[Answered], values: Sequence[float]) -> dict[str, Any]:
    groups: dict[str, list[float]] = defaultdict(list)
    for (question, _), value in zip(answered, values, strict=True):
        groups[question.cells.get("split", "")].append(value)
    if len(groups) < 2:
        return {}
    return {"splits": {name: {"score": _mean(group), "n": len(group)} for name, group in groups.items()}}


def _ocrbench_totals(answered: Sequence[Answered], points: Sequence[Point]) -> dict[str, int]:
    """Right answers per category, and of the six kinds of text recognition together."""
    totals: dict[str, int] = defaultdict(int)
    for (question, _), point in zip(answered, points, strict=True):
        category = question.cells.get("category", "")
        totals[category] += int(point.value)
        if category.endswith(FORMULAS_AND_TEXT) and "Mathematical" not in category:
            totals["Text Recognition"] += int(point.value)
    return dict(totals)


def _multiple_choice(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
    """Accuracy; where the benchmark is some categories of a file (BLINK*), their macro mean, with each beside
    it.
    """
    hits = [apply("multiple_choice", choice_case(*pair)) for pair in answered]
    if not benchmark.categories:
        points = [
            Point(unit_of(question), "", hit) for (question, _), hit in zip(answered, hits, strict=True)
        ]
        return Scored(_mean([100.0 * hit for hit in hits]), len(hits), points)
    groups: dict[str, list[float]] = {category: [] for category in benchmark.categories}
    points = []
    for (question, _), hit in zip(answered, hits, strict=True):
        category = question.cells["category"].replace(" ", "_")
        groups[category].append(100.0 * hit)
        points.append(Point(unit_of(question), category, hit))
    absent = [category for category, group in groups.items() if not group]
    if absent:
        raise GranvitError(
            f"{benchmark.tsv}: {benchmark.name}: no question of category {absent[0]}; fetch the file again"
        )
    details = {category: _mean(group) for category, group in groups.items()}
    details["micro"] = _mean([100.0 * hit for hit in hits])
    score = _mean([details[category] for category in groups])
    return Scored(score, len(hits), points, {"details": details})


def _mmmu(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
    points = []
    for question, text in answered:
        case = choice_case(question, text)
        rule = "multiple_choice" if case["choices"] else "mmmu_open"
        points.append(Point(unit_of(question), "", apply(rule, {**case, "tsv_answer": case["answer"]})))
    return Scored(_mean([100.0 * point.value for point in points]), len(points), points)


def _refcoco(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
    """Precision at IoU 0.5 per split; the benchmark's score is their macro mean."""
    boxes = gold_boxes(benchmark, [question for question, _ in answered])
    groups: dict[str, list[int]] = defaultdict(list)
    points = []
    for (question, text), box in zip(answered, boxes, strict=True):
        width, height = number(benchmark, question, "width"), number(benchmark, question, "height")
        case = {"prediction": text, "answers": [box], "width": width, "height": height}
        hit, split = apply("refcoco_iou50", case), question.cells["split"]
        groups[split].append(hit)
        points.append(Point(unit_of(question), split, hit))
    splits = {name: {"score": 100 * _mean(hits), "n": len(hits)} for name, hits in groups.items()}
    score = _mean([split["score"] for split in splits.values()])
    return Scored(score, len(answered), points, {"splits": splits})


def _mmvp(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
    """Plain accuracy, which alone can be the paper's 61-69; pair accuracy beside it."""
    cases = [choice_case(*pair) for pair in answered]
    result = aggregates.mmvp(cases)
    points = [Point(str(i // 2), "", apply("multiple_choice", case)) for i, case in enumerate(cases)]
    details = {"pair_accuracy": 100 * result["pair_accuracy"]}
    return Scored(100 * result["accuracy"], len(answered), points, {"details": details})


def _mmbench(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
    """Share of questions of which every rolling is right; ``n`` counts questions, not rows."""
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for question, text in answered:
        if not question.index.isdigit():
            raise GranvitError(
                f"{benchmark.tsv}: index {question.index} is no number; rollings are found by it"
            )
        groups[int(question.index) % ROLLING].append(choice_case(question, text))
    points = [
        Point(str(name), "", apply("mmbench_circular", {"rows": rows})) for name, rows in groups.items()
    ]
    plain = [100.0 * apply("multiple_choice", case) for rows in groups.values() for case in rows]
    details = {"plain_accuracy": _mean(plain), "rows": len(plain)}
    score = _mean([100.0 * point.value for point in points])
    return Scored(score, len(points), points, {"details": details})


def _hallusion(benchmark: Benchmark, answered: Sequence[Answered], marks: Marks) -> Scored:
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
    score = _mean(list(details.values()))
    return Scored(score, len(rows), _hallusion_points(rows), {"details": details})


def _hallusion_points(rows: Sequence[Mapping[str, str]]) -> list[Point]:
    """A point for each answer, figure and question: three parts of equal weight; sets are drawn as wholes."""
    points, groups = [], defaultdict(list)
    for row in rows:
        hit = apply("yes_no", row) == row["answer"]
        unit = f"{row['l2_category']}_{row['set_id']}"
        points.append(Point(unit, "aAcc", hit))
        groups[unit, "fAcc", row["figure_id"]].append(hit)
        groups[unit, "qAcc", row["question_id"]].append(hit)
    return points + [Point(unit, part, all(hits)) for (unit, part, _), hits in groups.items()]


_TEXT_RULES = (
    "anls",
    "relaxed_accuracy",
    "vqa_accuracy",
    "exact_match",
    "ocrbench_contains",
    "mmvet_contains",
)

SCORERS: dict[str, Scorer] = {
    **{rule: _average(rule, text_case) for rule in _TEXT_RULES},
    "mathvista": _average("mathvista", mathvista_case),
    "multiple_choice": _multiple_choice,
    "mmmu": _mmmu,
    "refcoco_iou50": _refcoco,
    "mmvp_pair": _mmvp,
    "mmbench_circular": _mmbench,
    "hallusion_aggregate": _hallusion,
}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
