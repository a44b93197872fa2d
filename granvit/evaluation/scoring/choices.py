"""Rules that read an option out of an answer: multiple choice, MMMU, MathVista, yes or no.

`infer_choice` is the toolkit's matching without a judge. It is stated here as it behaves, oddities included,
because a score is comparable only if the oddities are the same.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from granvit.evaluation.scoring.texts import strip_punctuation

FAILED_CALL = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
NO_OPTION = "Z"
OTHER_ANSWERS = "Other Answers"
LAST_WORDS = 4  # a letter is believed only if its first occurrence is among the last four words

_SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# No word boundary after the letter: "the answer is dog" says D. So it is in the toolkit since 2026-06-17.
_ANSWER_IS = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)

Choices = Mapping[str, Any]


def lettered(options: Sequence[Any]) -> dict[str, Any]:
    """``["cat", "dog"] -> {"A": "cat", "B": "dog"}``."""
    return dict(zip(string.ascii_uppercase, options, strict=False))


def infer_choice(prediction: str, choices: Choices) -> str | None:
    """The letter that an answer names (``Z``: it refuses), or None where no letter and no single option text
    is found.
    """
    prediction = str(prediction)
    return _infer_letter(prediction, choices) or _infer_text(prediction, choices)


def _infer_letter(prediction: str, choices: Choices) -> str | None:
    if FAILED_CALL in prediction:
        return None
    if any(refusal in prediction for refusal in REFUSALS):
        return NO_OPTION
    words = prediction.translate(_SEPARATORS).split()
    named = [letter for letter in choices if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - LAST_WORDS:
        return named[0]
    if not named and NO_OPTION in words:
        return NO_OPTION
    stated = _ANSWER_IS.search(prediction)
    if stated and stated.group(1).upper() in choices:
        return stated.group(1).upper()
    return None


def _infer_text(prediction: str, choices: Choices) -> str | None:
    texts = {letter: str(text) for letter, text in choices.items()}
    if len(prediction.lower()) > 2 * sum(len(text) for text in texts.values()):
        return None  # a long answer mentions options without choosing one
    named = [letter for letter, text in texts.items() if text.lower() in prediction.lower()]
    return named[0] if len(named) == 1 else None


def multiple_choice(prediction: str, choices: Choices, answer: str) -> int:
    """1 if the inferred letter is ``answer``; an answer that cannot be read counts as ``Z``, so it is wrong
    wherever the gold is not the letter Z itself (the toolkit's exact matching).
    """
    return int((infer_choice(prediction, choices) or NO_OPTION) == answer)


def offered(case: Mapping[str, Any]) -> Choices:
    """The options of a case; an open one (MMMU) is a choice between its gold and anything else."""
    return case["choices"] or {"A": case["answer"], "B": OTHER_ANSWERS}


def choice_read(case: Mapping[str, Any]) -> bool:
    """Whether an answer names an option; one that declines names none."""
    return infer_choice(case["prediction"], offered(case)) not in (None, NO_OPTION)


def open_gold(case: Mapping[str, Any]) -> str:
    """The gold cell of an open MMMU question as the TSV holds it: a list of golds stays one string."""
    if case.get("tsv_answer") is not None:
        return str(case["tsv_answer"])
    answers = case["answers"]
    return str(answers[0]) if len(answers) == 1 else str(list(answers))


def mmmu_open(prediction: str, gold: str) -> int:
    """An open MMMU question, asked as a choice between the gold (A) and any other answer (B).

    Hence a bare "A" counts as right, and of a gold that is a list only the list's own text matches. A gold
    that is itself a capital letter is taken for the option of that letter.
    """
    letter = gold if gold in set(string.ascii_uppercase) else "A"
    return multiple_choice(prediction, {"A": gold, "B": OTHER_ANSWERS}, letter)


def mathvista(case: Mapping[str, Any]) -> bool:
    """MathVista where a judge, if asked, returned the answer unchanged: the final hit.

    Text and list answers can't be right: the toolkit compares the text "None" with the gold.
    """
    prediction, gold = case["prediction"], case["answers"][0]
    if case["question_type"] == "multi_choice":
        letter = infer_choice(prediction, mathvista_choices(case["choices"]))
        return letter is not None and letter == case["answer_option"]
    number = {"integer": int, "float": float}.get(case["answer_type"])
    if number is None:
        return str(gold) == "None"
    try:
        return number(prediction) == number(gold)
    except (ValueError, TypeError):  # no such number; no answer at all
        return False


def mathvista_extracted(case: Mapping[str, Any]) -> bool:
    """Whether an answer could be read at all: a letter or option text, or a number of the kind asked for."""
    if case["question_type"] == "multi_choice":
        return infer_choice(case["prediction"], mathvista_choices(case["choices"])) is not None
    try:
        {"integer": int, "float": float}.get(case["answer_type"], str)(case["prediction"])
    except (ValueError, TypeError):
        return False
    return case["answer_type"] in ("integer", "float")


def mathvista_read(case: Mapping[str, Any]) -> str | None:
    """What was read out of an answer: the option's letter or the number, else None."""
    if case["question_type"] == "multi_choice":
        return infer_choice(case["prediction"], mathvista_choices(case["choices"]))
    return case["prediction"].strip() if mathvista_extracted(case) else None


def mathvista_choices(choices: str | Sequence[Any]) -> dict[str, Any]:
    """MathVista's choices, a list or the text of one, by letter."""
    return lettered(ast.literal_eval(choices) if isinstance(choices, str) else choices)


def is_list(choices: str | None) -> bool:
    """Whether a cell spells a list that is not empty."""
    try:
        found = ast.literal_eval(choices or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(found, (list, tuple)) and len(found) > 0


def yes_or_no(prediction: str) -> str:
    """``Yes`` or ``No`` if exactly one of the two words stands in the answer, else ``Unknown``."""
    words = set(strip_punctuation(str(prediction).lower()).split())
    if ("yes" in words) == ("no" in words):
        return "Unknown"
    return "Yes" if "yes" in words else "No"
