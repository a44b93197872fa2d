"""From resamples to a verdict: effect, interval, p-value, the smallest effect that could be seen, and what
follows for a claim (docs/claims.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from granvit.evaluation.uncertainty import LEVEL

ALPHA = 1 - LEVEL
POWER = 0.8  # of the smallest effect that could be seen
HOLDS, FAILS, UNDECIDED, NOT_MADE = "holds", "fails", "undecided", "not made"
EQUIVALENCE = ("same", "not higher")  # directions that are judged by a margin


@dataclass(frozen=True)
class Result:
    """An ``effect`` in its endpoint's unit, its 95 % interval, a two-sided p-value, and the smallest effect
    that so many questions and seeds show in 80 of 100 cases; None without an interval.
    """

    effect: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    smallest: float | None = None


def measure(
    scores: np.ndarray,
    drawn: np.ndarray | None,
    recipes: Sequence[str],
    contrasts: Sequence[Mapping[str, float]],
    direction: str,
    margin: float | None,
) -> Result:
    """The smallest of some ``contrasts`` (recipe -> weight) between mean ``scores`` (recipes,), with its
    interval from resamples ``drawn`` (resamples, recipes).

    Of several contrasts (*best of*) the lower end is that of the lowest, which needs no correction: all have
    to be above it. The upper end, and the p-value of being worse, are corrected for having chosen the lowest
    (Bonferroni).
    """
    weights = np.array([[contrast.get(name, 0.0) for name in recipes] for contrast in contrasts]).T
    effect = float((scores @ weights).min())
    if drawn is None:
        return Result(effect)
    differences, several = drawn @ weights, len(contrasts)
    low = np.quantile(differences, ALPHA / 2, axis=0).min()
    high = np.quantile(differences, 1 - ALPHA / (2 * several), axis=0).min()
    detectable = (high - low) / 2 * (1 + norm.ppf(POWER) / norm.ppf(1 - ALPHA / 2))
    p = _p_value(differences, direction, margin)
    return Result(effect, float(low), float(high), p, float(detectable))


def _p_value(differences: np.ndarray, direction: str, margin: float | None) -> float:
    """Two-sided: twice the smaller share of resamples (N, contrasts) on the other side. Of equivalence: twice
    that beyond the margin, so that it is below 0.05 where the interval is within it.
    """
    several = differences.shape[1]
    if margin is not None:
        beyond = _share(differences >= margin).max()
        if direction == "same":
            beyond = max(beyond, _share(differences <= -margin).max())
        return min(1.0, 2 * float(beyond))
    below, above = _share(differences <= 0).max(), min(1.0, several * _share(differences >= 0).min())
    return min(1.0, 2 * float(min(below, above)))


def _share(hits: np.ndarray) -> np.ndarray:
    return (1 + hits.sum(axis=0)) / (1 + len(hits))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: the smallest of m p-values times m, the next times m - 1, and so on, none below one
    before it and none above 1. A claim without a p-value counts as one of 1.
    """
    order = sorted(range(len(p_values)), key=lambda place: _known(p_values[place]))
    corrected: list[float | None] = [None] * len(p_values)
    before = 0.0
    for rank, place in enumerate(order):
        before = max(before, min(1.0, (len(order) - rank) * _known(p_values[place])))
        corrected[place] = None if p_values[place] is None else before
    return corrected


def _known(p: float | None) -> float:
    return 1.0 if p is None else p


def verdict(result: Result, direction: str, margin: float | None, corrected: float | None) -> str:
    """`holds`, `fails` or `undecided`; ``corrected``: the p-value after Holm, of claims without a margin."""
    low, high = result.low, result.high
    if low is None or high is None:
        return UNDECIDED
    if margin is not None:
        lowest = -margin if direction == "same" else -np.inf
        if lowest <= low and high <= margin:
            return HOLDS
        return FAILS if high < lowest or low > margin else UNDECIDED
    if direction == "lower":
        low, high, effect = -high, -low, -result.effect
    else:
        effect = result.effect
    if corrected is not None and corrected < ALPHA and effect > 0:
        return HOLDS
    return FAILS if high < 0 else UNDECIDED
