"""Which questions count together: MMVP's pairs, MMBench's rollings, HallusionBench's sets. Where one of them
has no gold answer, none of them is scored, and a part of a benchmark holds them whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from granvit.evaluation.tsv_files import Question

ROLLING = 1_000_000  # MMBench: rows whose index agrees modulo this are rollings of one question


def units(rule: str, questions: Sequence[Question]) -> list[str]:
    """The unit of each question, by its benchmark's rule; most questions stand alone."""
    return [_unit(rule, place, question) for place, question in enumerate(questions)]


def _unit(rule: str, place: int, question: Question) -> str:
    index = question.index
    if rule == "mmvp_pair":
        return str(place // 2)
    if rule == "mmbench_circular" and index.isdigit():
        return str(int(index) % ROLLING)
    if rule == "hallusion_aggregate":
        return f"{question.cells.get('l2-category', '')} {'_'.join(index.split('_')[3:4])}"
    return index


def first_units(rule: str, questions: Sequence[Question], limit: int | None) -> list[Question]:
    """The questions of the first ``limit`` units, in the file's order; all without a limit."""
    if limit is None:
        return list(questions)
    names = units(rule, questions)
    kept = set(list(dict.fromkeys(names))[:limit])
    return [question for question, name in zip(questions, names, strict=True) if name in kept]
