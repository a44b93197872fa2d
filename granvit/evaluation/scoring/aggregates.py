"""How verdicts become a score: means, splits and categories, and the benchmarks whose rows count together
(HallusionBench, MMVP's pairs, MMBench's rollings).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.scoring.choices import infer_choice, multiple_choice, yes_or_no
from granvit.evaluation.tsv_files import Question
from granvit.evaluation.uncertainty import Point, bootstrap_interval
from granvit.evaluation.units import ROLLING

FORMULAS_AND_TEXT = "Recognition"  # OCRBench: categories that end so (but for formulas) make Text Recognition

Case = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a rule says of the answer to a question: ``value`` 0-1, and the case that it was read from."""

    question: Question
    case: Case
    value: float

    def point(self, part: str = "") -> Point:
        """The verdict as a point; questions on the same images rise and fall together."""
        unit = "|".join(map(str, self.question.images)) or self.question.index
        return Point(unit, part, self.value)


@dataclass(frozen=True)
class Scored:
    """A score over ``n`` questions with its points, and how much all right answers are (``full``).

    ``extra``: `splits` and `details` of the score file.
    """

    score: float
    n: int
    points: list[Point]
    extra: dict[str, Any] = field(default_factory=dict)
    full: int = 100


def average(benchmark: Benchmark, verdicts: Sequence[Verdict], full: int = 100) -> Scored:
    """The mean of all answers."""
    score = _mean([full * verdict.value for verdict in verdicts])
    return Scored(score, len(verdicts), [verdict.point() for verdict in verdicts], full=full)


def average_and_splits(benchmark: Benchmark, verdicts: Sequence[Verdict], full: int = 100) -> Scored:
    """The mean of all answers, with that of each `split` where the file has several."""
    groups = _by_split(verdicts)
    extra = {}
    if len(groups) > 1:
        scores = {name: average(benchmark, group, full).score for name, group in groups.items()}
        extra = {"splits": {name: _split(group, scores[name], full) for name, group in groups.items()}}
    return replace(average(benchmark, verdicts, full), extra=extra)


def ocrbench(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Scored:
    """Out of 1000, with the right answers per category, and of the six kinds of text recognition together."""
    totals: dict[str, int] = defaultdict(int)
    for verdict in verdicts:
        category = verdict.question.cells.get("category", "")
        totals[category] += int(verdict.value)
        if category.endswith(FORMULAS_AND_TEXT) and "Mathematical" not in category:
            totals["Text Recognition"] += int(verdict.value)
    scored = average_and_splits(benchmark, verdicts, full=1000)
    return replace(scored, extra={**scored.extra, "details": dict(totals)})


def by_category(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Scored:
    """The mean of all answers; where the benchmark is some categories of a file (BLINK*), their macro mean,
    with each beside it.

    Raises GranvitError where the file has no question of a category.
    """
    if not benchmark.categories:
        return average(benchmark, verdicts)
    groups: dict[str, list[Verdict]] = {category: [] for category in benchmark.categories}
    for verdict in verdicts:
        groups[verdict.question.cells["category"].replace(" ", "_")].append(verdict)
    absent = [category for category, group in groups.items() if not group]
    if absent:
        raise GranvitError(
            f"{benchmark.tsv}: {benchmark.name}: no question of category {absent[0]}; fetch the file again"
        )
    details = {category: average(benchmark, group).score for category, group in groups.items()}
    score = _mean([*details.values()])
    details["micro"] = average(benchmark, verdicts).score
    points = [verdict.point(category) for category, group in groups.items() for verdict in group]
    return Scored(score, len(verdicts), points, {"details": details})


def by_split(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Scored:
    """RefCOCO's precision per split; the score is their macro mean."""
    splits = {
        name: _split(group, 100 * _mean([verdict.value for verdict in group]), 100)
        for name, group in _by_split(verdicts).items()
    }
    score = _mean([split["score"] for split in splits.values()])
    points = [verdict.point(verdict.question.cells["split"]) for verdict in verdicts]
    return Scored(score, len(verdicts), points, {"splits": splits})


def _by_split(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.question.cells.get("split", "")].append(verdict)
    return groups


def _split(verdicts: Sequence[Verdict], score: float, full: int) -> dict[str, Any]:
    """What a score file says of one split: its interval too, made as the whole score's is."""
    interval = bootstrap_interval([verdict.point() for verdict in verdicts])
    return {"score": score, "n": len(verdicts), "interval": [full * bound for bound in interval]}


def paired(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Scored:
    """MMVP's plain accuracy, which alone can be the paper's 61-69, with pair accuracy beside it.

    Raises GranvitError where the rows do not lie in pairs.
    """
    result = mmvp([verdict.case for verdict in verdicts])
    points = [Point(str(i // 2), "", verdict.value) for i, verdict in enumerate(verdicts)]
    details = {"pair_accuracy": 100 * result["pair_accuracy"]}
    return Scored(100 * result["accuracy"], len(verdicts), points, {"details": details})


def mmvp(rows: Sequence[Case]) -> dict[str, float]:
    """MMVP, 0-1: plain ``accuracy``, and ``pair_accuracy`` where both rows of a pair must be right.

    Rows lie in pairs that share their question: ``question``, options ``A``, ``B``, ..., ``answer``,
    ``prediction``. Raises GranvitError where they do not.
    """
    pairs = [*zip(rows[::2], rows[1::2], strict=False)]
    if len(rows) % 2 or any(a["question"] != b["question"] for a, b in pairs):
        raise GranvitError(
            "MMVP: rows must lie in pairs that share their question; restore the TSV's own row order"
        )
    hits = [multiple_choice(row["prediction"], _options(row), row["answer"]) for row in rows]
    both = [a and b for a, b in zip(hits[::2], hits[1::2], strict=True)]
    return {"pair_accuracy": _mean(both), "accuracy": _mean(hits)}


def _options(row: Case) -> dict[str, Any]:
    if "choices" in row:
        return row["choices"]
    return {key: row[key] for key in row if len(key) == 1 and key.isupper()}


def rolled(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Scored:
    """MMBench's share of questions of which every rolling is right; ``n`` counts questions, not rows.

    Raises GranvitError for an index that is not a number.
    """
    groups: dict[int, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        index = verdict.question.index
        if not index.isdigit():
            raise GranvitError(f"{benchmark.tsv}: index {index} is not a number; rollings are found by it")
        groups[int(index) % ROLLING].append(verdict)
    points = [Point(str(name), "", circular([v.case for v in group])) for name, group in groups.items()]
    details = {"plain_accuracy": average(benchmark, verdicts).score, "rows": len(verdicts)}
    return Scored(_mean([100.0 * point.value for point in points]), len(points), points, {"details": details})


def circular(rows: Sequence[Case]) -> int:
    """1 if every rolling of one MMBench question is right (``choices``, ``answer``, ``prediction`` each).

    Other than in plain multiple choice, an answer that cannot be read is wrong whatever the gold is.
    """
    return int(all(infer_choice(row["prediction"], row["choices"]) == row["answer"] for row in rows))


def three_accuracies(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> Scored:
    """HallusionBench's mean of aAcc, fAcc and qAcc: parts of equal weight. Sets are drawn as wholes."""
    points = _hallusion_points([verdict.case for verdict in verdicts])
    details = _percent_by_part(points)
    return Scored(_mean([*details.values()]), len(verdicts), points, {"details": details})


def hallusion(rows: Sequence[Case]) -> dict[str, float]:
    """HallusionBench in percent: ``aAcc`` answers, ``fAcc`` figures and ``qAcc`` questions with all answers
    right.

    Rows: ``l2_category``, ``set_id``, ``figure_id``, ``question_id``, ``answer`` (``Yes`` or ``No``, in this
    spelling), ``prediction``.
    """
    return _percent_by_part(_hallusion_points(rows))


def _hallusion_points(rows: Sequence[Case]) -> list[Point]:
    """A point for each answer, each figure and each question."""
    groups: dict[tuple, list[bool]] = defaultdict(list)
    for number, row in enumerate(rows):
        hit = yes_or_no(row["prediction"]) == row["answer"]
        for part, member in (("aAcc", number), ("fAcc", row["figure_id"]), ("qAcc", row["question_id"])):
            groups[str(row["l2_category"]), str(row["set_id"]), part, str(member)].append(hit)
    return [Point(f"{kind}_{name}", part, float(all(hits))) for (kind, name, part, _), hits in groups.items()]


def _percent_by_part(points: Sequence[Point]) -> dict[str, float]:
    parts: dict[str, list[float]] = defaultdict(list)
    for point in points:
        parts[point.part].append(point.value)
    return {part: 100 * _mean(values) for part, values in parts.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
