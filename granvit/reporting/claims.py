"""The paper's claims, each with what it reports, what was reproduced, and a verdict (docs/claims.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from granvit.config.claims import FAMILIES, Claim, ClaimsFile, Endpoint, members
from granvit.config.tables import TableSpec
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.resampling import of_seeds_alone
from granvit.files import write_text
from granvit.reporting.claim_data import Answers, Boxes, NotMadeError, benchmarks_named, last_metric
from granvit.reporting.claim_page import claims_page
from granvit.reporting.claim_reported import Printed
from granvit.reporting.claim_tests import EQUIVALENCE, NOT_MADE, Result, holm, measure, verdict

RESAMPLES = 10_000
DECIMALS = 4
COLUMNS = [
    "family", "id", "claim", "where", "endpoint", "compared", "direction", "margin", "reported", "reproduced",
    "low", "high", "p", "p_holm", "smallest", "seeds", "n", "verdict", "note", "scale",
]  # fmt: skip
ONE_SEED = "one seed: the interval is over questions only"
SEEDS_ALONE = "a log has no questions: the interval is over seeds only"
NO_INTERVAL = "one seed and no questions: no interval"


@dataclass(frozen=True)
class Source:
    """Where claims are read from. ``results``: the scale's folder; ``data_dir``: the benchmarks' files;
    ``seeds``, ``left_out``: of each claim, as ``granvit.graph.claims`` has them; ``stages``: of runs whose
    training logs are read; ``reported``: folder of the paper's numbers.
    """

    results: Path
    data_dir: str | Path
    benchmarks: Sequence[Benchmark]
    tables: Mapping[str, TableSpec]
    seeds: Mapping[str, Sequence[int]]
    left_out: Mapping[str, str]
    stages: Mapping[str, str]
    reported: Path = Path("config/reported")
    resamples: int = RESAMPLES


def make_claims(
    content: ClaimsFile, source: Source, scale: str, out_csv: str | Path, out_md: str | Path
) -> None:
    """Write all claims, a line each, columns ``COLUMNS``, and the same for readers. A claim that cannot be
    made is a line too, with its reason. Raises GranvitError for a file that is missing or broken.
    """
    lines = [line for family in FAMILIES for line in _family(family, content, source)]
    claims = pd.DataFrame(lines, columns=COLUMNS[:-1]).assign(scale=scale)
    write_text(out_csv, claims.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    write_text(out_md, claims_page(claims, scale))


def _family(family: str, content: ClaimsFile, source: Source) -> list[dict[str, Any]]:
    """The lines of one family; Holm's correction is over those of its claims that have a direction."""
    claims: dict[str, Claim] = getattr(content, family)
    evidence, lines = _Evidence({k: c for k, c in claims.items() if k not in source.left_out}, source), []
    for key, claim in claims.items():
        line: dict[str, Any] = _line(family, key, claim, source)
        try:
            if key in source.left_out:
                raise NotMadeError(source.left_out[key])
            result, n, note = evidence.result(key, claim)
        except NotMadeError as reason:
            line |= {"verdict": NOT_MADE, "note": str(reason)}
        else:
            line |= {"result": result, "n": n, "note": note}
        lines.append(line)
    directed = [line for line in lines if line["direction"] not in EQUIVALENCE]
    p_values = holm([line["result"].p if "result" in line else None for line in directed])
    corrected = {line["id"]: p for line, p in zip(directed, p_values, strict=True)}
    return [_judged(line, corrected.get(line["id"])) for line in lines]


def _line(family: str, key: str, claim: Claim, source: Source) -> dict[str, Any]:
    printed = Printed(source.reported, source.tables, source.stages)
    return {
        "family": family, "id": key, "claim": claim.statement, "where": claim.where,
        "endpoint": claim.endpoint.name, "compared": compared(claim), "direction": claim.direction,
        "margin": claim.margin, "reported": printed.effect(claim),
        "seeds": " ".join(map(str, source.seeds[key])),
    }  # fmt: skip


def _judged(line: dict[str, Any], corrected: float | None) -> dict[str, Any]:
    result: Result | None = line.pop("result", None)
    if result is None:
        return line
    said = verdict(result, line["direction"], line["margin"], corrected)
    numbers = {
        "reproduced": result.effect, "low": result.low, "high": result.high, "p": result.p,
        "p_holm": corrected, "smallest": result.smallest,
    }  # fmt: skip
    shown = {name: None if value is None else round(value, DECIMALS) for name, value in numbers.items()}
    return line | shown | {"verdict": said}


def compared(claim: Claim) -> str:
    """What a claim compares, in words."""
    compare = claim.compare
    if compare.best:
        return f"{compare.best} - best of {', '.join(compare.among or [])}"
    if compare.trend:
        return f"trend over {', '.join(compare.trend)}"
    if compare.weights:
        return " ".join(f"{weight:+g} {name}" for name, weight in compare.weights.items())
    return f"{compare.of} - {compare.minus}" if compare.minus else str(compare.of)


class _Evidence:
    """The results of the claims of one family, read once."""

    def __init__(self, claims: Mapping[str, Claim], source: Source) -> None:
        self.claims, self.source = claims, source
        self._answers: dict[tuple[int, ...], Answers] = {}

    def result(self, key: str, claim: Claim) -> tuple[Result, int | None, str]:
        """A claim's result, the questions behind it, and what has to be said about it."""
        seeds, compare = tuple(self.source.seeds[key]), claim.compare
        if claim.endpoint.heldout:
            return self._of_logs(key, claim, seeds)
        if claim.endpoint.attention:
            boxes = Boxes(self.source.results, compare.recipes, seeds, self.source.resamples)
            found = boxes.measure(claim.endpoint)
        else:
            found = self._of_seeds(seeds).measure(claim.endpoint)
        how = (compare.contrasts, claim.direction, claim.margin)
        return (
            measure(found.scores, found.drawn, found.recipes, *how),
            found.questions,
            "" if len(seeds) > 1 else ONE_SEED,
        )

    def _of_seeds(self, seeds: tuple[int, ...]) -> Answers:
        """All scores of the claims at these seeds: what seeds add is learnt from all of them."""
        if seeds not in self._answers:
            scored = [
                claim
                for key, claim in self.claims.items()
                if tuple(self.source.seeds[key]) == seeds and self._groups(claim.endpoint)
            ]
            recipes = dict.fromkeys(name for claim in scored for name in claim.compare.recipes)
            cells = next(iter(self.source.tables.values())).shared.benchmarks
            names = [name for claim in scored for group in self._groups(claim.endpoint) for name in group]
            asked = benchmarks_named(self.source.benchmarks, [cells[name].benchmark for name in names])
            self._answers[seeds] = Answers(
                self.source.results, self.source.data_dir, asked, self.source.tables, list(recipes), seeds,
                self.source.resamples,
            )  # fmt: skip
        return self._answers[seeds]

    def _groups(self, endpoint: Endpoint) -> list[list[str]]:
        return members(endpoint, dict(self.source.tables))

    def _of_logs(self, key: str, claim: Claim, seeds: tuple[int, ...]) -> tuple[Result, None, str]:
        """A training log has a number a seed and no questions."""
        source, contrasts = self.source, claim.compare.contrasts
        values = {name: self._last(name, seeds, claim.endpoint) for name in claim.compare.recipes}
        by_seed = [sum(weight * values[name] for name, weight in each.items()) for each in contrasts]
        places = [str(place) for place in range(len(contrasts))]
        drawn = [
            of_seeds_alone(one, source.resamples, [key, place])
            for one, place in zip(by_seed, places, strict=True)
        ]
        result = measure(
            np.array([one.mean() for one in by_seed]),
            None if len(seeds) < 2 else np.stack(drawn, axis=1),
            places, [{place: 1.0} for place in places], claim.direction, claim.margin,
        )  # fmt: skip
        return result, None, NO_INTERVAL if len(seeds) < 2 else SEEDS_ALONE

    def _last(self, name: str, seeds: Sequence[int], endpoint: Endpoint) -> np.ndarray:
        results, stage = self.source.results, self.source.stages[name]
        return np.array([last_metric(results, stage, (name, seed), endpoint) for seed in seeds])
