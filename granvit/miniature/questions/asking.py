"""A question of the miniature before it takes a prompt form, and the choice among many of them.

`Asked` holds a plain question, its answer and the answers that a reader could be offered instead. Training
wraps it in a random form (`in_a_form`), a benchmark in its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from granvit.miniature.questions import templates

YES_NO = ("Yes", "No")


@dataclass(frozen=True)
class Asked:
    """A well-posed question about one image.

    ``others``: wrong answers of the same kind, none of which is also right; empty where only an open question
    makes sense. ``hint``: a sentence without which the question has no answer (ScienceQA).
    """

    family: str
    question: str
    answer: str
    others: tuple[str, ...] = ()
    hint: str | None = None


def yes_no(family: str, question: str, truth: bool) -> Asked:
    """A question whose answer is Yes or No."""
    return Asked(family, question, YES_NO[0 if truth else 1], (YES_NO[1 if truth else 0],))


def among(family: str, question: str, answer: str, values: Iterable[str], hint: str | None = None) -> Asked:
    """A question whose answer is one of ``values``."""
    return Asked(family, question, answer, tuple(value for value in values if value != answer), hint)


def pick(rng: np.random.Generator, options: Sequence):
    """One of ``options`` (kept as it is; `Generator.choice` would turn it into a NumPy value)."""
    return options[int(rng.integers(len(options)))]


def pick_balanced(questions: Sequence[Asked], rng: np.random.Generator) -> Asked:
    """First an answer, each as likely as any other, then a question with it: Yes as often as No."""
    answer = pick(rng, sorted({asked.answer for asked in questions}))
    return pick(rng, [asked for asked in questions if asked.answer == answer])


def lettered_options(
    asked: Asked, rng: np.random.Generator, place: int | None = None
) -> tuple[list[str], str]:
    """At most four options and the letter of the right one; it is put at ``place`` (0 = A) if given."""
    wrong = [asked.others[int(i)] for i in rng.permutation(len(asked.others))[: len(templates.LETTERS) - 1]]
    place = int(rng.integers(len(wrong) + 1)) if place is None else place % (len(wrong) + 1)
    return [*wrong[:place], asked.answer, *wrong[place:]], templates.LETTERS[place]


def in_a_form(asked: Asked, rng: np.random.Generator) -> tuple[str, str]:
    """Question and answer for training, in a random one of the forms that the benchmarks use."""
    draw = rng.random()
    if asked.hint or (asked.others and draw < 0.4):
        options, letter = lettered_options(asked, rng)
        if asked.hint is None and draw < 0.05:
            return templates.math_choice_form(asked.question, options), letter
        return templates.choice_form(asked.question, options, asked.hint), letter
    if draw > 0.95 and asked.answer.isdigit():
        return templates.math_integer_form(asked.question), asked.answer
    if draw > 0.9:
        return templates.open_form(asked.question), asked.answer
    if draw > 0.65:
        return asked.question, asked.answer
    return templates.short_form(asked.question), asked.answer
