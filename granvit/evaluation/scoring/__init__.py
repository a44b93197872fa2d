"""The scoring rules of the twenty benchmarks by name: pure Python, no model, no judge.

A rule takes a *case*: a mapping with the prediction, the gold answers and whatever else the rule needs (the
forms are those of `docs/evaluation.md`), and returns its verdict. `score.py` builds cases from TSV rows;
`check_cases.py` reads them from files. What each rule must do was learnt from VLMEvalKit's behaviour (commit
e8e78f05, August 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from granvit.evaluation.scoring import aggregates, choices, grounding, texts

Case = Mapping[str, Any]

RULES: dict[str, Callable[[Case], Any]] = {
    "anls": lambda case: texts.anls(case["prediction"], case["answers"]),
    "relaxed_accuracy": lambda case: texts.relaxed_accuracy(case["prediction"], case["answers"]),
    "vqa_accuracy": lambda case: texts.vqa_accuracy(case["prediction"], case["answers"]),
    "exact_match": lambda case: texts.exact_match(case["prediction"], case["answers"]),
    "ocrbench_contains": lambda case: texts.ocrbench_contains(
        case["prediction"], case["answers"], case.get("category", "")
    ),
    "mmvet_contains": lambda case: texts.mmvet_contains(case["prediction"], case["answers"][0]),
    "rouge_l": lambda case: texts.rouge_l(case["prediction"], case["answers"]),
    "refcoco_iou50": lambda case: grounding.iou50(
        case["prediction"], case["answers"][0], case["width"], case["height"]
    ),
    "multiple_choice": lambda case: choices.multiple_choice(
        case["prediction"], case["choices"], case["answers"][0]
    ),
    "mmmu_multiple_choice": lambda case: choices.multiple_choice(
        case["prediction"], choices.lettered(case["options"]), case["answers"][0]
    ),
    "mmmu_open": lambda case: choices.mmmu_open(case["prediction"], choices.open_gold(case)),
    "mathvista": choices.mathvista,
    "yes_no": lambda case: choices.yes_or_no(case["prediction"]),
    "hallusion_aggregate": lambda case: aggregates.hallusion(case["rows"]),
    "mmvp_pair": lambda case: aggregates.mmvp(case["rows"]),
    "mmbench_circular": lambda case: aggregates.circular(case["rows"]),
}

COMPARE_TEXTS = {"anls", "relaxed_accuracy", "vqa_accuracy", "exact_match", "ocrbench_contains", "rouge_l"}


def apply(rule: str, case: Case) -> Any:
    """The verdict of ``rule`` on ``case``: 0-1 for rules of one answer, a label, or a dict for aggregates.

    A prediction or gold that is no text (a number, None) is compared as its text, as the toolkit does.
    """
    if rule in COMPARE_TEXTS:
        golds = [str(answer) for answer in case["answers"]]
        case = {**case, "prediction": str(case["prediction"]), "answers": golds}
    return RULES[rule](case)
