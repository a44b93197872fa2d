"""The scoring rules as data: from a benchmark's rows and a model's answers to its score.

A rule takes *cases*: mappings with the prediction, the gold answers and whatever else it needs. `score.py`
builds them from TSV rows, `check_cases.py` reads them from files. What each rule must do was learnt from
VLMEvalKit's behaviour (commit e8e78f05, August 2026). A new rule is its function in `scoring/` and one entry
of `RULES`.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from granvit.boxes import from_relative
from granvit.errors import GranvitError
from granvit.evaluation import judge
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.judge import Asking
from granvit.evaluation.prompts import options
from granvit.evaluation.scoring import aggregates, choices, grounding, texts
from granvit.evaluation.scoring.aggregates import Case, Scored, Verdict
from granvit.evaluation.tsv_files import Question
from granvit.evaluation.units import units

Answered = tuple[Question, str]
_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def golds(question: Question) -> list[str]:
    """The gold answers of a row: the TSV's cell, or the members of the list that it spells."""
    answer = question.cells.get("answer", "")
    if answer.startswith("["):
        with contextlib.suppress(ValueError, SyntaxError):  # it may merely start with a bracket
            return [str(member) for member in ast.literal_eval(answer)]
    return [answer]


def _text_case(question: Question) -> Case:
    return {"answers": golds(question), "category": question.cells.get("category", "")}


def _choice_case(question: Question) -> Case:
    """``choices`` is empty for an open question (MMMU)."""
    answer = question.cells.get("answer", "")
    offered = options(question.cells)
    return {"choices": offered, "answers": [answer], "answer": answer, "question": question.cells["question"]}


def _mathvista_cases(benchmark: Benchmark, questions: Sequence[Question]) -> list[Case]:
    """Which rule reads an answer hangs on its row's kind, so that no row may lack it."""
    keys = ("question_type", "answer_type", "choices", "answer_option")
    cases = []
    for question in questions:
        case = {key: question.cells.get(key) for key in keys}
        chosen = case["question_type"] == "multi_choice"
        if case["question_type"] is None:
            wrong, expected = "question_type", "multi_choice or free_form"
        elif chosen and not choices.is_list(case["choices"]):
            wrong, expected = "choices", "the list of the options that it chooses from"
        elif not chosen and case["answer_type"] is None:
            wrong, expected = "answer_type", "integer, float, text or list"
        else:
            cases.append({"answers": [question.cells.get("answer", "")], **case})
            continue
        shown = case[wrong] or "empty"
        raise GranvitError(
            f"{benchmark.tsv}: row {question.index}: {wrong} is {shown}; expected {expected}. Fetch the file "
            "again"
        )
    return cases


def _each(case: Callable[[Question], Case]) -> Callable[[Benchmark, Sequence[Question]], list[Case]]:
    return lambda benchmark, questions: [case(question) for question in questions]


def _hallusion_cases(benchmark: Benchmark, questions: Sequence[Question]) -> list[Case]:
    """An index ends in ``_{set}_{figure}_{question}``."""
    cases = []
    for question in questions:
        parts = question.index.split("_")
        if len(parts) < 6:
            raise GranvitError(
                f"{benchmark.tsv}: index {question.index} lacks set, figure and question; expected "
                "a_VD_kind_set_figure_question"
            )
        cases.append({
            "l2_category": question.cells.get("l2-category", ""),
            "set_id": parts[3], "figure_id": parts[4], "question_id": parts[5],
            "answer": question.cells.get("answer", ""),
        })  # fmt: skip
    return cases


def _box_cases(benchmark: Benchmark, questions: Sequence[Question]) -> list[Case]:
    """Gold boxes in pixels: columns bbox_x1 .. bbox_y2, else the answers, which are relative if none exceeds
    1.5. An image without a size is 1 x 1, as in the toolkit, so that its box must be relative.
    """

    def mistake(question: Question, key: str, expected: str) -> GranvitError:
        shown = question.cells.get(key, "missing")
        return GranvitError(f"{benchmark.tsv}: row {question.index}: {key} is {shown}; expected {expected}")

    def number(question: Question, key: str, otherwise: str | None = None) -> float:
        try:
            return float(question.cells.get(key, otherwise))
        except (TypeError, ValueError):
            raise mistake(question, key, "a number") from None

    def answer(question: Question) -> list[float]:
        numbers = grounding.parse_numbers(question.cells.get("answer", ""))
        if numbers is None:
            raise mistake(question, "answer", "a box [x1, y1, x2, y2]")
        return numbers

    in_columns = [all(key in question.cells for key in _CORNERS) for question in questions]
    boxes = [
        [number(question, key) for key in _CORNERS] if has else answer(question)
        for question, has in zip(questions, in_columns, strict=True)
    ]
    relative = max(abs(value) for box in boxes for value in box) <= grounding.LARGEST_RELATIVE
    cases = []
    for question, box, has_columns in zip(questions, boxes, in_columns, strict=True):
        width, height = (max(0.0, number(question, key, "1")) or 1.0 for key in ("width", "height"))
        if (width, height) == (1, 1) and max(map(abs, box)) > grounding.LARGEST_RELATIVE:
            raise mistake(question, "width", "the image's width and height, as the box is in pixels")
        if not has_columns and any(in_columns):  # beside rows with columns the toolkit takes each by itself
            box = grounding.to_pixels(box, width, height)
        elif not has_columns and relative:
            box = from_relative(box, width, height)
        cases.append({"answers": [box], "width": width, "height": height})
    return cases


def _is_there(cell: str | None) -> bool:
    return cell is not None and cell.strip().lower() not in ("", "nan")


def _has_answer(question: Question) -> bool:
    return _is_there(question.cells.get("answer")) and golds(question) != []


def _has_box(question: Question) -> bool:
    return all(_is_there(question.cells.get(corner)) for corner in _CORNERS) or _has_answer(question)


def _has_number_or_option(question: Question) -> bool:
    is_choice = question.cells.get("question_type") == "multi_choice"
    return _is_there(question.cells.get("answer_option" if is_choice else "answer"))


@dataclass(frozen=True)
class Rule:
    """How the benchmarks of one kind are scored.

    ``value``: the verdict on one answer, 0-1; ``of_rows``: on a sample case of several rows;
    ``cases``: what ``value`` needs of each question beside the prediction, its golds included;
    ``has_gold``: whether a row can be scored, with those that count together with it (`units`);
    ``reads``: whether anything could be read out of the answer, where something has to be;
    ``read``, ``gold``: what was read, and what it was held against, to be shown;
    ``judge``: what a judge is asked, and when;
    ``total``: how verdicts become a score with its splits, details and points.
    """

    value: Callable[[Case], float]
    cases: Callable[[Benchmark, Sequence[Question]], list[Case]] = _each(_text_case)
    has_gold: Callable[[Question], bool] = _has_answer
    reads: Callable[[Case], bool] | None = None
    read: Callable[[Case], Any] = lambda case: case["prediction"]
    gold: Callable[[Case], Any] = lambda case: case["answers"]
    judge: Asking | None = None
    total: Callable[[Benchmark, Sequence[Verdict]], Scored] = aggregates.average_and_splits
    of_rows: Callable[[Sequence[Case]], Any] | None = None


def _compared(rule: Callable[..., float], *keys: str) -> Callable[[Case], float]:
    """A rule of texts: a prediction or gold that is a number or None is compared as its text, as in the
    toolkit."""

    def value(case: Case) -> float:
        answers = [str(answer) for answer in case["answers"]]
        return rule(str(case["prediction"]), answers, *(case.get(key, "") for key in keys))

    return value


def _chosen(case: Case) -> int:
    return choices.multiple_choice(case["prediction"], case["choices"], case["answers"][0])


def _open(case: Case) -> int:
    return choices.mmmu_open(case["prediction"], choices.open_gold(case))


_CHOICE = Rule(
    _chosen,
    cases=_each(_choice_case),
    reads=choices.choice_read,
    read=lambda case: choices.infer_choice(case["prediction"], choices.offered(case)),
    gold=lambda case: case["answer"],
    judge=Asking(judge.choosing, optional=True),
    total=aggregates.by_category,
)

RULES: dict[str, Rule] = {
    "anls": Rule(_compared(texts.anls)),
    "relaxed_accuracy": Rule(_compared(texts.relaxed_accuracy)),
    "vqa_accuracy": Rule(_compared(texts.vqa_accuracy)),
    "exact_match": Rule(_compared(texts.exact_match)),
    "ocrbench_contains": Rule(_compared(texts.ocrbench_contains, "category"), total=aggregates.ocrbench),
    "mmvet_contains": Rule(
        lambda case: texts.mmvet_contains(case["prediction"], case["answers"][0]),
        judge=Asking(judge.grading, marks=True),
    ),
    "mathvista": Rule(
        choices.mathvista,
        cases=_mathvista_cases,
        has_gold=_has_number_or_option,
        reads=choices.mathvista_extracted,
        read=choices.mathvista_read,
        gold=lambda case: case["answer_option"] or case["answers"][0],
        judge=Asking(judge.extraction),
    ),
    "multiple_choice": _CHOICE,
    "mmmu": replace(
        _CHOICE,
        value=lambda case: _chosen(case) if case["choices"] else _open(case),
        total=aggregates.average,
    ),
    "refcoco_iou50": Rule(
        lambda case: grounding.iou50(case["prediction"], case["answers"][0], case["width"], case["height"]),
        cases=_box_cases,
        has_gold=_has_box,
        reads=lambda case: grounding.parse_numbers(case["prediction"]) is not None,
        read=lambda case: grounding.read_box(case["prediction"], case["width"], case["height"]),
        gold=lambda case: case["answers"][0],
        total=aggregates.by_split,
    ),
    "mmvp_pair": replace(_CHOICE, total=aggregates.paired, of_rows=aggregates.mmvp),
    "mmbench_circular": replace(_CHOICE, total=aggregates.rolled, of_rows=aggregates.circular),
    "hallusion_aggregate": Rule(
        lambda case: choices.yes_or_no(case["prediction"]) == case["answer"],
        cases=_hallusion_cases,
        reads=lambda case: choices.yes_or_no(case["prediction"]) != "Unknown",
        read=lambda case: choices.yes_or_no(case["prediction"]),
        gold=lambda case: case["answer"],
        judge=Asking(judge.meaning, optional=True),
        total=aggregates.three_accuracies,
        of_rows=aggregates.hallusion,
    ),
}

# Parts of rules that sample cases name by themselves, and a rule that no benchmark here takes.
PARTS: dict[str, Callable[[Case], Any]] = {
    "mmmu_multiple_choice": lambda case: _chosen({**case, "choices": choices.lettered(case["options"])}),
    "mmmu_open": _open,
    "yes_no": lambda case: choices.yes_or_no(case["prediction"]),
    "rouge_l": _compared(texts.rouge_l),
}


def scorable(benchmark: Benchmark, questions: Sequence[Question]) -> list[bool]:
    """Whether each question, with those that it counts together with, has a gold."""
    rule, names = rule_of(benchmark), units(benchmark.rule, questions)
    incomplete = {name for name, one in zip(names, questions, strict=True) if not rule.has_gold(one)}
    return [name not in incomplete for name in names]


def rule_of(benchmark: Benchmark) -> Rule:
    """The benchmark's rule. Raises GranvitError where there is none of that name."""
    if benchmark.rule not in RULES:
        raise GranvitError(
            f"config/benchmarks.tsv: {benchmark.name}: there is no rule '{benchmark.rule}'; expected one of "
            f"{', '.join(RULES)}"
        )
    return RULES[benchmark.rule]


def apply(name: str, case: Case) -> Any:
    """What a rule, or a part of one, says of a sample case: 0-1, a label, or a dict for several rows."""
    if name in PARTS:
        return PARTS[name](case)
    rule = RULES[name]
    return rule.of_rows(case["rows"]) if rule.of_rows else rule.value(case)
