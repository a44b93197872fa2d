"""Rules that look at several rows at once: HallusionBench, MMVP's pairs, MMBench's rollings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.scoring.choices import infer_choice, multiple_choice, yes_or_no

Row = Mapping[str, Any]


def hallusion(rows: Sequence[Row]) -> dict[str, float]:
    """HallusionBench in percent: ``aAcc`` answers, ``fAcc`` figures and ``qAcc`` questions with all answers
    right.

    Rows: ``l2_category``, ``set_id``, ``figure_id``, ``question_id``, ``answer`` (``Yes`` or ``No``, in this
    spelling), ``prediction``.
    """
    hits = [yes_or_no(row["prediction"]) == row["answer"] for row in rows]
    return {
        "aAcc": 100 * _mean(hits),
        "fAcc": 100 * _all_right(rows, hits, ("l2_category", "set_id", "figure_id")),
        "qAcc": 100 * _all_right(rows, hits, ("l2_category", "set_id", "question_id")),
    }


def _all_right(rows: Sequence[Row], hits: Sequence[bool], keys: Sequence[str]) -> float:
    groups: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    for row, hit in zip(rows, hits, strict=True):
        groups[tuple(str(row[key]) for key in keys)].append(hit)
    return _mean([all(group) for group in groups.values()])


def mmvp(rows: Sequence[Row]) -> dict[str, float]:
    """MMVP, 0-1: plain ``accuracy``, and ``pair_accuracy`` where both rows of a pair must be right.

    Rows lie in pairs that share their question: ``question``, options ``A``, ``B``, ..., ``answer``,
    ``prediction``.
    """
    if len(rows) % 2 or any(
        a["question"] != b["question"] for a, b in zip(rows[::2], rows[1::2], strict=True)
    ):
        raise GranvitError(
            "MMVP: rows must lie in pairs that share their question; restore the TSV's own row order"
        )
    hits = [multiple_choice(row["prediction"], _options(row), row["answer"]) for row in rows]
    pairs = [a and b for a, b in zip(hits[::2], hits[1::2], strict=True)]
    return {"pair_accuracy": _mean(pairs), "accuracy": _mean(hits)}


def _options(row: Row) -> dict[str, Any]:
    return (
        row["choices"]
        if "choices" in row
        else {key: row[key] for key in row if len(key) == 1 and key.isupper()}
    )


def circular(rows: Sequence[Row]) -> int:
    """1 if every rolling of one MMBench question is right (``choices``, ``answer``, ``prediction`` each).

    Other than in plain multiple choice, an answer that cannot be read is wrong whatever the gold is.
    """
    return int(all(infer_choice(row["prediction"], row["choices"]) == row["answer"] for row in rows))


def _mean(values: Sequence[Any]) -> float:
    return sum(values) / len(values)
