"""Runs resampled together, on simulated runs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from granvit.errors import GranvitError
from granvit.evaluation.resampling import Member, of_seeds_alone, over_seeds, resampled, seed_noise
from granvit.evaluation.uncertainty import Point, bootstrap_interval, paired_difference

RESAMPLES = 400


def points(values, units=None):
    return [Point(f"q{units[i] if units else i}", "", float(value)) for i, value in enumerate(values)]


def simulate(draw, seeds=3, recipes=5, questions=40, by_seed=0.0, gain=0.0):
    """(recipes, seeds, questions): right or wrong. Questions are hard or easy for all; each recipe finds its
    own easier; a run is off by ``by_seed``; the first recipe is better by ``gain``."""
    chance = 0.5 + draw.normal(0, 0.25, questions) + draw.normal(0, 0.1, (recipes, 1, questions))
    chance = chance + draw.normal(0, by_seed, (recipes, seeds, 1)) + draw.normal(0, by_seed, (1, seeds, 1))
    chance[0] += gain
    return (draw.random(chance.shape) < chance).astype(float)


def differences(values, resamples=RESAMPLES):
    """Resamples of the first recipe's mean less the second's."""
    recipes, seeds, _ = values.shape
    member = Member("f", 1.0, [points(values[r, s]) for r in range(recipes) for s in range(seeds)])
    scores, drawn = (found.reshape(-1, recipes, seeds) for found in resampled([member], resamples))
    means = over_seeds(drawn, seed_noise(scores[0], drawn), [str(r) for r in range(recipes)])
    return means[:, 0] - means[:, 1]


def width(drawn):
    return float(np.diff(np.quantile(drawn, [0.025, 0.975]))[0])


@pytest.mark.parametrize(("seeds", "by_seed"), [(1, 0.0), (3, 0.0), (3, 0.1)])
def test_about_95_of_100_intervals_hold_the_true_difference(seeds, by_seed):
    draw, held = np.random.default_rng(1), []
    for _ in range(150):
        low, high = np.quantile(differences(simulate(draw, seeds, by_seed=by_seed)), [0.025, 0.975])
        held.append(low <= 0 <= high)
    assert 0.9 <= np.mean(held) <= 0.99


def test_seeds_that_differ_widen_the_interval_and_so_do_few_of_them():
    values = simulate(np.random.default_rng(0), by_seed=0.0, questions=400)
    restless = values.copy()
    restless[:, :, :80] = (np.arange(15).reshape(5, 3, 1) * 7 % 11 < 5).astype(float)  # a fifth, by the seed
    assert width(differences(restless)) > 1.5 * width(differences(values))
    assert width(differences(restless[:2])) > 1.3 * width(
        differences(restless)
    )  # 2 degrees of freedom, not 8


def test_questions_alone_do_not_count_twice_as_what_seeds_add():
    shares = []
    for number in range(20):
        values = simulate(np.random.default_rng(number))
        member = Member("f", 1.0, [points(run) for run in values.reshape(15, -1)])
        scores, drawn = (found.reshape(-1, 5, 3) for found in resampled([member], RESAMPLES))
        alone = drawn.mean(axis=2)
        shares.append(width(differences(values)) / width(alone[:, 0] - alone[:, 1]))
    assert np.median(shares) < 1.15


def test_pairing_narrows_the_interval():
    draw = np.random.default_rng(0)
    hard = draw.random(200)
    runs = [(draw.random(200) < np.where(hard < 0.5, 0.95, 0.05)).astype(float) for _ in range(2)]
    paired = differences(np.array(runs)[:, None])
    apart = [np.diff(bootstrap_interval(points(run)))[0] for run in runs]
    assert width(paired) < 0.6 * np.hypot(*apart)


def test_one_benchmark_and_one_seed_is_the_paired_difference_that_there_was():
    draw = np.random.default_rng(3)
    units = [i // 3 for i in range(300)]
    a, b = (points(draw.random(300).round(2), units) for _ in range(2))
    _, drawn = resampled([Member("f", 1.0, [a, b])], 4000)
    known = paired_difference(a, b, resamples=4000)
    found = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    assert found == pytest.approx((known.low, known.high), abs=0.05 * (known.high - known.low))


def test_members_of_one_file_are_drawn_together_and_those_of_others_apart():
    values = (np.arange(100) < 50).astype(float)
    runs = [points(values), points(1 - values)]
    one = resampled([Member("f", 0.5, runs), Member("f", 0.5, runs)], 2000)[1]
    two = resampled([Member("f", 0.5, runs), Member("g", 0.5, runs)], 2000)[1]
    assert width(one[:, 0]) == pytest.approx(2**0.5 * width(two[:, 0]), rel=0.1)


def test_parts_weigh_alike_and_an_absent_one_is_left_out():
    run = [Point("a", "one", 1.0), Point("b", "two", 0.0), Point("c", "two", 0.0), Point("d", "two", 0.0)]
    scores, drawn = resampled([Member("f", 100.0, [run])], 500)
    assert scores == [50.0]
    assert set(drawn[:, 0]) == {0.0, 50.0, 100.0}  # without a; with both parts; a alone


def test_equal_questions_give_equal_bytes_in_any_order():
    values = simulate(np.random.default_rng(0), 1, 2)
    runs = [points(run) for run in values[:, 0]]
    mixed = [run[::-1] for run in runs]
    first, second = (resampled([Member("f", 1.0, some)], 100)[1] for some in (runs, mixed))
    assert (first == second).all()


def test_runs_on_other_questions_are_refused():
    with pytest.raises(GranvitError, match="answer different questions"):
        resampled([Member("RefCOCO.tsv", 1.0, [points([0, 1]), points([0, 1, 1])])], 10)


def test_a_number_a_seed_has_students_interval_and_one_seed_has_none():
    drawn = of_seeds_alone(np.array([1.0, 2.0, 3.0]), 20_000, ["a"])
    half = 4.303 / 3**0.5  # t of 2 degrees of freedom, standard deviation 1
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx((2 - half, 2 + half), rel=0.1)
    assert of_seeds_alone(np.array([1.0]), 10, ["a"]) is None
