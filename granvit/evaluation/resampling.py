"""Many runs resampled together: what each scores on the same drawn questions, and what seeds add to that.

Questions: of each file as many units (an image with all its questions, a pair, a set) as there are, drawn
with replacement; one resample is the same for all runs, so what a question's difficulty adds to all of them
cancels out in their differences (*paired*).

Seeds: too few to be drawn with replacement (three seeds have ten resamples, and the interval of their mean
would hold it three times in four). So what they add is estimated as in an analysis of variance with seeds as
blocks: the variance of recipe by seed beyond what the questions explain, alike for all recipes that are
compared, and drawn from Student's t with its degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from granvit.errors import GranvitError
from granvit.evaluation.uncertainty import Point, by_unit, seed_of

_NUMBERS_AT_ONCE = 4_000_000  # of a block of resamples


@dataclass(frozen=True)
class Member:
    """One addend of an endpoint: a ``weight`` times the mean over its parts of their means.

    ``runs``: the points (0-1) of each run, on the same questions; ``file``: where these stand, so that
    members of one file are drawn together.
    """

    file: str
    weight: float
    runs: Sequence[Sequence[Point]]


@dataclass(frozen=True)
class Noise:
    """What seeds add: the ``variance`` of one run's score beyond its questions, with its degrees of
    freedom."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class _Sums:
    """Contents of units: ``numbers`` (U, C) of points, ``values`` (U, C, runs) summed; a column is a part of
    a member, whose place ``member`` (C,) says."""

    units: list[str]
    numbers: np.ndarray
    values: np.ndarray
    member: np.ndarray


def resampled(members: Sequence[Member], resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """The scores as they are, (runs,), and in each resample, (resamples, runs). A part or member that a
    resample leaves out is left out of its mean. Raises GranvitError where runs answer different questions.
    """
    weights = np.array([member.weight for member in members])
    runs = len(members[0].runs)
    whole, drawn = np.zeros((2, 1, runs)), np.zeros((2, resamples, runs))
    for file in dict.fromkeys(member.file for member in members):
        places = [place for place, member in enumerate(members) if member.file == file]
        sums = _collect([members[place] for place in places], places)
        whole += _weighted(np.ones((1, len(sums.units))), sums, weights)
        draw = np.random.default_rng(seed_of([file, *sums.units]))
        units = len(sums.units)
        block = max(1, _NUMBERS_AT_ONCE // max(units, sums.values[0].size))
        for start in range(0, resamples, block):
            size = min(block, resamples - start)
            chosen = draw.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
            times = np.bincount(chosen.ravel(), minlength=size * units).reshape(size, units)
            drawn[:, start : start + size] += _weighted(times.astype(float), sums, weights)
    total = weights.sum()
    return total * whole[0, 0] / whole[1, 0], total * drawn[0] / np.maximum(drawn[1], 1e-12)


def seed_noise(scores: np.ndarray, drawn: np.ndarray) -> Noise | None:
    """What seeds add to ``scores`` (recipes, seeds), of which ``drawn`` (resamples, recipes, seeds) holds
    resamples of questions; None for one seed. The mean square of what recipe and seed leave over, less what
    of it the questions explain, and at least 0.
    """
    recipes, seeds = scores.shape
    if seeds < 2:
        return None
    freedom = (recipes - 1) * (seeds - 1)
    left = _left_over(scores[None])
    by_questions = _left_over(drawn - scores[None])
    variance = ((left**2).sum() - (by_questions**2).sum(axis=(1, 2)).mean()) / freedom
    return Noise(max(0.0, float(variance)), freedom)


def over_seeds(drawn: np.ndarray, noise: Noise | None, names: Sequence[str]) -> np.ndarray:
    """(resamples, recipes): means over seeds of ``drawn`` (resamples, recipes, seeds), with what seeds add.
    ``names`` seed the generator. Only differences between recipes mean anything: what a seed adds to all of
    them alike is left out.
    """
    means = drawn.mean(axis=2)
    if noise is None or noise.variance == 0:
        return means
    draw = np.random.default_rng(seed_of(names))
    wide = np.sqrt(noise.freedom / draw.chisquare(noise.freedom, (len(means), 1)))
    spread = (noise.variance / drawn.shape[2]) ** 0.5
    return means + draw.standard_normal(means.shape) * wide * spread


def of_seeds_alone(values: np.ndarray, resamples: int, names: Sequence[str]) -> np.ndarray | None:
    """(resamples,): the mean of one value a seed (seeds,) with Student's t about it; None for one seed."""
    if len(values) < 2:
        return None
    draw = np.random.default_rng(seed_of(names))
    spread = values.std(ddof=1) / len(values) ** 0.5
    return values.mean() + spread * draw.standard_t(len(values) - 1, resamples)


def _left_over(scores: np.ndarray) -> np.ndarray:
    """(..., recipes, seeds) without the mean of each recipe and of each seed."""
    whole = scores.mean(axis=(1, 2), keepdims=True)
    return scores - scores.mean(axis=2, keepdims=True) - scores.mean(axis=1, keepdims=True) + whole


def _collect(members: Sequence[Member], places: Sequence[int]) -> _Sums:
    """The contents of all units of one file."""
    counted = [[by_unit(points) for points in member.runs] for member in members]
    units = sorted({unit for runs in counted for unit in runs[0][0]})
    row_of = {unit: row for row, unit in enumerate(units)}
    numbers, values, member_of = [], [], []
    for place, runs in zip(places, counted, strict=True):
        own, parts, first = runs[0]
        half, rows = len(parts), [row_of[unit] for unit in own]
        for other, other_parts, contents in runs[1:]:
            if (other, other_parts) != (own, parts) or (contents[:, half:] != first[:, half:]).any():
                raise GranvitError(
                    f"{members[0].file}: runs that are compared answer different questions ({len(own)} and "
                    f"{len(other)} units); score them on the same benchmark files"
                )
        of_all = np.zeros((len(units), half))
        of_all[rows] = first[:, half:]
        sums = np.zeros((len(units), half, len(runs)))
        sums[rows] = np.stack([contents[:, :half] for _, _, contents in runs], axis=2)
        numbers.append(of_all)
        values.append(sums)
        member_of += [place] * half
    return _Sums(units, np.hstack(numbers), np.concatenate(values, axis=1), np.array(member_of))


def _weighted(times: np.ndarray, sums: _Sums, weights: np.ndarray) -> np.ndarray:
    """(2, N, runs): the weighted sum of members, and the weight of those that are there, where each unit is
    drawn ``times`` (N, U)."""
    units, columns, runs = sums.values.shape
    numbers = times @ sums.numbers
    values = (times @ sums.values.reshape(units, -1)).reshape(len(times), columns, runs)
    means = values / np.maximum(numbers, 1)[:, :, None]
    found = np.zeros((2, len(times), runs))
    for place in np.unique(sums.member):
        own = sums.member == place
        parts = (numbers[:, own] > 0).sum(axis=1)[:, None]
        there = weights[place] * (parts > 0)
        found[0] += there * means[:, own].sum(axis=1) / np.maximum(parts, 1)
        found[1] += there
    return found
