"""Uncertainty: intervals of a score and of a difference, on points whose answer is known."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest

from granvit.errors import GranvitError
from granvit.evaluation.uncertainty import Difference, bootstrap_interval, mean_score, paired_difference


class Point(NamedTuple):
    unit: str
    part: str
    value: float


def right_or_wrong(right: int, questions: int) -> list[Point]:
    return [Point(f"q{i}", "", float(i < right)) for i in range(questions)]


@pytest.mark.parametrize(("right", "questions"), [(40, 100), (600, 1000), (11000, 12578)])
def test_the_interval_of_an_accuracy_is_that_of_the_binomial(right, questions):
    share = right / questions
    wide = 1.96 * (share * (1 - share) / questions) ** 0.5
    low, high = bootstrap_interval(right_or_wrong(right, questions), resamples=10_000)
    assert (low, high) == pytest.approx((share - wide, share + wide), abs=0.1 * wide + 1 / questions)


def test_the_interval_of_a_mean_of_many_different_values_is_that_of_drawing_question_by_question():
    draw = np.random.default_rng(0)
    values = draw.beta(2, 5, size=400)
    plain = [values[draw.integers(0, 400, 400)].mean() for _ in range(5000)]
    interval = bootstrap_interval(
        [Point(str(i), "", value) for i, value in enumerate(values)], resamples=5000
    )
    assert interval == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.002)


def test_order_does_not_change_an_interval_and_other_units_do():
    values = random.Random(0).choices([0.0, 0.5, 1.0, 0.123], k=200)
    points = [Point(f"q{i}", "ab"[i % 2], value) for i, value in enumerate(values)]
    mixed = random.Random(1).sample(points, len(points))
    assert bootstrap_interval(mixed) == bootstrap_interval(points)
    assert mean_score(mixed) == mean_score(points)
    renamed = [point._replace(unit="r" + point.unit) for point in points]
    assert bootstrap_interval(renamed) != bootstrap_interval(points)


def test_questions_that_stand_or_fall_together_widen_the_interval():
    alone = [Point(f"q{i}", "", float(i < 100)) for i in range(200)]
    pairs = [Point(f"pair{i // 10}", "", float(i < 100)) for i in range(200)]
    width = {name: np.diff(bootstrap_interval(points)) for name, points in (("a", alone), ("p", pairs))}
    assert width["p"] == pytest.approx(10**0.5 * width["a"], rel=0.15)


def test_a_score_is_the_mean_over_its_parts_and_so_is_every_resample():
    points = [Point(f"q{i}", "large", 1.0) for i in range(900)] + [
        Point(f"s{i}", "small", 0.0) for i in range(100)
    ]
    assert mean_score(points) == 0.5
    assert bootstrap_interval(points) == (0.5, 0.5)  # both parts are sure, whatever is drawn


def test_a_part_that_a_resample_leaves_out_does_not_break_it():
    points = [Point("a", "one", 1.0), Point("b", "two", 0.0), Point("c", "two", 1.0)]
    low, high = bootstrap_interval(points)
    assert 0.0 <= low <= mean_score(points) <= high <= 1.0


def test_a_difference_that_is_the_same_on_every_question_has_no_width():
    a = [Point(f"q{i}", "", (i % 7) / 7 + 0.25) for i in range(70)]
    b = [Point(f"q{i}", "", (i % 7) / 7) for i in range(70)]
    difference = paired_difference(a, b)
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.25, 0.25, 0.25))
    assert difference.is_clear


def test_models_that_fail_on_the_same_questions_are_told_apart_where_independent_ones_are_not():
    better, worse = right_or_wrong(520, 1000), right_or_wrong(500, 1000)  # the same ones right, and 20 more
    shifted = [point._replace(value=float(i >= 500)) for i, point in enumerate(worse)]  # all others right
    assert paired_difference(better, worse).is_clear
    assert not paired_difference(better, shifted).is_clear
    assert paired_difference(better, worse).mean == pytest.approx(0.02)


def test_swapping_the_models_turns_the_difference_round():
    draw = np.random.default_rng(0)
    a, b = ([Point(f"q{i}", "", value) for i, value in enumerate(draw.integers(0, 4, 300) / 3)] for _ in "ab")
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert back == Difference(-there.mean, -there.high, -there.low)


def test_a_model_compared_with_itself_does_not_differ():
    points = right_or_wrong(60, 100)
    assert paired_difference(points, points) == Difference(0.0, 0.0, 0.0)
    assert not paired_difference(points, points).is_clear


@pytest.mark.parametrize(
    "other",
    [
        right_or_wrong(3, 9),
        [Point("q0", "", 1.0), *right_or_wrong(3, 10)],
        [point._replace(part="x" if i else "") for i, point in enumerate(right_or_wrong(3, 10))],
        [point._replace(part="x") for point in right_or_wrong(3, 10)],
    ],
)
def test_answers_to_different_questions_are_not_compared(other):
    with pytest.raises(GranvitError, match="different questions"):
        paired_difference(right_or_wrong(3, 10), other)


def test_a_score_without_points_is_refused():
    with pytest.raises(GranvitError, match="without a single point"):
        bootstrap_interval([])
