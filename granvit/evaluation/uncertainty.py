"""Which differences mean something: bootstrap intervals of a score, and of the difference of two models.

A score is a mean over parts (splits, categories, aAcc/fAcc/qAcc) of the mean of each part's points. What is
drawn again and again is not a point but a *unit*, whose points rise and fall together: a question, a pair
(MMVP), a set of figures (HallusionBench), the questions on one image.

Units with the same content are interchangeable, so where they have few different ones a resample is drawn as
how often each occurs (a multinomial): 12,578 answers that are right or wrong cost two numbers a resample.
Results do not depend on the order of the points: units are taken by name, which also seeds the generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from granvit.errors import GranvitError

RESAMPLES = 2_000
LEVEL = 0.95  # share of the resamples inside the interval
DECIMALS = 10  # of an interval: the digits that do not depend on how a machine adds
_NUMBERS_AT_ONCE = 200_000  # of a block of resamples: it stays in the cache
_MULTINOMIAL_COST = 10  # times that of drawing one unit by its number, measured


@dataclass(frozen=True)
class Point:
    """One value (0-1) that a score is made of: the mean over parts of the means of their points.

    ``unit``: what is drawn together when the score's uncertainty is estimated: questions on the same images,
    a pair, a set.
    """

    unit: str
    part: str
    value: float


@dataclass(frozen=True)
class Difference:
    """How much higher the first model scores, with its bootstrap interval, in the points' own scale."""

    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def mean_score(points: Sequence[Point]) -> float:
    """The score itself: mean over parts of the mean of each part's points."""
    _, _, contents = by_unit(points)
    return float(_scores(contents.sum(axis=0, keepdims=True))[0])


def bootstrap_interval(
    points: Sequence[Point], resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile interval of the score, in the points' scale: ``(low, high)``.

    A part that a resample happens to leave out is left out of that resample's mean. Where all points are
    alike (a score of 0 or 1) the interval has no width: the bootstrap knows nothing beyond its sample.
    Raises GranvitError without points.
    """
    units, _, contents = by_unit(points)
    sums = _resampled_sums(contents, seed_of(units), resamples)
    return _percentiles(_scores(sums), level)


def paired_difference(
    a: Sequence[Point], b: Sequence[Point], resamples: int = RESAMPLES, level: float = LEVEL
) -> Difference:
    """Score of ``a`` minus score of ``b``, two models on the same questions, with its percentile interval.

    Both are resampled together, so what a question's difficulty adds to both cancels out. Raises
    GranvitError where the two do not have the same units and parts, each with as many points.
    """
    units, parts, first = by_unit(a)
    others, other_parts, second = by_unit(b)
    half = len(parts)
    if (units, parts) != (others, other_parts) or (first[:, half:] != second[:, half:]).any():
        odd = sorted(set(units) ^ set(others))
        raise GranvitError(
            f"these are answers to different questions ({len(units)} and {len(others)} units"
            + (f"; '{odd[0]}' is in one only" if odd else "; their parts differ")
            + "); compare two models on the same benchmark files"
        )
    sums = _resampled_sums(np.hstack([first, second]), seed_of(units), resamples)
    differences = _scores(sums[:, : 2 * half]) - _scores(sums[:, 2 * half :])
    return Difference(mean_score(a) - mean_score(b), *_percentiles(differences, level))


def by_unit(points: Sequence[Point]) -> tuple[list[str], list[str], np.ndarray]:
    """Names of the units and of the parts, in order, and the units' contents: (units, 2 * parts), sums of
    values, then how many.
    """
    if not points:
        raise GranvitError("a score without a single point has no interval; score the benchmark first")
    units, unit_of = np.unique([str(point.unit) for point in points], return_inverse=True)
    parts, part_of = np.unique([str(point.part) for point in points], return_inverse=True)
    values = np.array([float(point.value) for point in points])
    order = np.lexsort((values, part_of, unit_of))  # sums of floats depend on their order: fix it
    contents = np.zeros((len(units), 2 * len(parts)))
    np.add.at(contents, (unit_of[order], part_of[order]), values[order])
    np.add.at(contents, (unit_of, len(parts) + part_of), 1.0)
    return units.tolist(), parts.tolist(), contents


def seed_of(units: Sequence[str]) -> int:
    """The seed of a generator that follows from names, in their order."""
    return int.from_bytes(hashlib.sha256("\n".join(units).encode()).digest()[:8], "big")


def _resampled_sums(contents: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """(resamples, columns): the contents of as many units as there are, drawn with replacement, summed."""
    units = len(contents)
    different, first, occurs = np.unique(contents, axis=0, return_index=True, return_counts=True)
    by_unit = np.argsort(first)  # the same order for models a, b and b, a
    different, occurs = different[by_unit], occurs[by_unit]
    few = len(different) * _MULTINOMIAL_COST <= units
    draw = np.random.default_rng(seed)
    block = max(1, _NUMBERS_AT_ONCE // (len(different) if few else units))
    blocks = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if few:
            blocks.append(draw.multinomial(units, occurs / units, size=size) @ different)
        else:
            drawn = draw.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
            times = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
            blocks.append(times @ contents)
    return np.concatenate(blocks)


def _scores(sums: np.ndarray) -> np.ndarray:
    """(N, 2 * parts) -> (N,): the mean over the parts that have points of sum / number."""
    values, numbers = np.split(sums, 2, axis=1)
    present = numbers > 0
    means = np.divide(values, numbers, out=np.zeros_like(values), where=present)
    return means.sum(axis=1) / present.sum(axis=1)


def _percentiles(scores: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return round(float(low), DECIMALS), round(float(high), DECIMALS)


def ratio_intervals(
    units: Sequence[str],
    numerators: np.ndarray,
    denominators: np.ndarray,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[tuple[float, float]]:
    """The percentile interval of each ratio of sums (recall, error rate), units drawn with replacement.

    ``units`` (U): names, each once; ``numerators`` and ``denominators`` (U, R): what each unit adds to the
    R ratios. A resample in which a denominator is 0 is left out of that ratio's; where all are, the interval
    is (nan, nan). Raises GranvitError without units.
    """
    if not units:
        raise GranvitError("a ratio over no images has no interval; count at least one")
    order = np.argsort(np.array(units))
    contents = np.hstack([numerators, denominators]).astype(float)[order]
    sums = _resampled_sums(contents, seed_of([units[place] for place in order]), resamples)
    above, below = np.split(sums, 2, axis=1)
    ratios = (a[b > 0] / b[b > 0] for a, b in zip(above.T, below.T, strict=True))
    return [_percentiles(found, level) if len(found) else (np.nan, np.nan) for found in ratios]
