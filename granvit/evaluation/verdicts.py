"""A score question by question (what was answered, what was read out of it, what it was worth), and category
by category.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.rules import Rule, Verdict
from granvit.evaluation.units import units


def lines(
    rule: Rule, verdicts: Sequence[Verdict], answers: Mapping[str, str], said: Mapping[str, str | float]
) -> Iterator[dict[str, Any]]:
    """A mapping a question: ``index``, ``prediction`` (the model's), ``read`` (the option, number, box, yes
    or no that stands in it, null where none does; the answer itself where nothing has to be read), ``gold``,
    ``score`` (0-1), ``category``, and ``judge`` (its mark or reading) where one was heard.
    """
    for verdict in verdicts:
        question, case = verdict.question, verdict.case
        line = {
            "index": question.index,
            "prediction": answers[question.index],
            "read": rule.read(case),
            "gold": rule.gold(case),
            "score": float(verdict.value),
            "category": question.cells.get("category", ""),
        }
        yield line | ({"judge": said[question.index]} if question.index in said else {})


def by_category(benchmark: Benchmark, rule: Rule, verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    """category -> its score, as that of the whole is made, and ``n``; empty where the file has no categories.

    Questions that count together (`units`) belong to the category of the first of them.
    """
    names = units(benchmark.rule, [verdict.question for verdict in verdicts])
    category_of: dict[str, str] = {}
    groups: dict[str, list[Verdict]] = {}
    for name, verdict in zip(names, verdicts, strict=True):
        category = category_of.setdefault(name, verdict.question.cells.get("category", ""))
        groups.setdefault(category, []).append(verdict)
    if set(groups) == {""}:
        return {}
    whole = replace(benchmark, categories=())  # else each would lack the others
    scored = {category: rule.total(whole, group) for category, group in groups.items()}
    return {category: {"score": one.score, "n": one.n} for category, one in scored.items()}
