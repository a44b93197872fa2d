"""What the claims of `config/claims.yaml` need at a scale, and which of them it cannot make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product

from granvit.config.claims import FAMILIES, FILE, Claim, ClaimsFile, members
from granvit.config.reading import nearest
from granvit.config.tables import TableSpec
from granvit.errors import GranvitError
from granvit.graph.scale import Scale


@dataclass(frozen=True)
class Needed:
    """Each once: ``answers``, the (recipe, seed, benchmark) whose verdicts and scores are read; ``logs`` and
    ``boxes``, the (recipe, seed) whose training log or attention in boxes is; ``stages``: of the runs with
    training logs; ``left_out``: claim -> why it is not made.
    """

    answers: dict[tuple[str, int, str], None] = field(default_factory=dict)
    logs: dict[tuple[str, int], None] = field(default_factory=dict)
    boxes: dict[tuple[str, int], None] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def needed(scale: Scale, content: ClaimsFile, tables: Mapping[str, TableSpec]) -> Needed:
    """What the claims asked for (``claims`` of the configuration) need. Raises GranvitError where that names
    one that there is not.
    """
    require_known(scale.config.claims or (), content)
    found = Needed()
    for family in FAMILIES:
        scored: dict[tuple[int, ...], list[Claim]] = {}
        for key, claim in getattr(content, family).items():
            seeds = content.seeds_of(claim, scale.config)
            runs = [(name, seed) for name in claim.compare.recipes for seed in seeds]
            if claim.endpoint.heldout:
                found.stages.update({name: scale.recipe(name).stage for name, _ in runs})
            reason = _reason(key, claim, scale)
            if reason:
                found.left_out[key] = reason
            elif claim.endpoint.heldout:
                found.logs.update(dict.fromkeys(runs))
            elif claim.endpoint.attention:
                found.boxes.update(dict.fromkeys(runs))
            else:
                scored.setdefault(tuple(seeds), []).append(claim)
        for seeds, claims in scored.items():
            names = [name for claim in claims for name in claim.compare.recipes]
            asked = [name for claim in claims for name in benchmarks_of(claim, tables)]
            found.answers.update(dict.fromkeys(product(dict.fromkeys(names), seeds, dict.fromkeys(asked))))
    return found


def files(scale: Scale, content: ClaimsFile, tables: Mapping[str, TableSpec]) -> dict[str, list[tuple]]:
    """What the claims are tested on: verdicts (the job that makes them also makes the scores that are held
    against them), training logs, attention in boxes."""
    found = needed(scale, content, tables)
    return {
        "verdicts": [("verdicts", *one) for one in found.answers],
        "logs": [("training_log", *one) for one in found.logs],
        "boxes": [("boxes", *one) for one in found.boxes],
    }


def require_known(chosen: Iterable[str], content: ClaimsFile) -> None:
    """Raise GranvitError for an id that config/claims.yaml does not have."""
    for key in chosen:
        if key not in content.claims:
            raise GranvitError(
                f"config/config.yaml: claims: '{key}' is not a claim of {FILE}"
                f"{nearest(key, content.claims)}; correct the id"
            )


def benchmarks_of(claim: Claim, tables: Mapping[str, TableSpec]) -> list[str]:
    """The benchmarks (names of config/benchmarks.tsv) behind a claim's scores."""
    shared = next(iter(tables.values())).shared
    groups = members(claim.endpoint, dict(tables))
    return [shared.benchmarks[name].benchmark for group in groups for name in group]


def _reason(key: str, claim: Claim, scale: Scale) -> str | None:
    """Why a claim is not made at this scale, if it is not."""
    if scale.config.claims is not None and key not in scale.config.claims:
        return "not asked for (`claims` in config/config.yaml)"
    silent = [name for name in claim.compare.recipes if not scale.recipe(name).eval_every]
    if claim.endpoint.heldout and silent:
        return f"{silent[0]} asks no held-out questions at this scale (`eval_every: 0`)"
    return None


def claim_facts(scale: Scale, content: ClaimsFile, tables: Mapping[str, TableSpec]) -> dict:
    """What the table of claims depends on besides its files."""
    found = needed(scale, content, tables)
    seeds = {key: content.seeds_of(claim, scale.config) for key, (_, claim) in content.claims.items()}
    return {"left_out": found.left_out, "stages": found.stages, "seeds": seeds}
