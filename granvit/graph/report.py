"""What the report depends on besides its input files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from granvit.config.recipes import Recipe
from granvit.config.tables import TableSpec, required_forward_runs, required_leaves
from granvit.errors import GranvitError
from granvit.graph.runs import with_ancestors
from granvit.graph.scale import Scale

SITE = Path(__file__).resolve().parents[1] / "reporting" / "site"


def shown(scale: Scale, kind: str, known: Sequence[str], made: Sequence[str]) -> list[str]:
    """The ``tables`` or ``figures`` that the report of a scale shows: those of ``report.{kind}``, else all
    that are ``made``. Raises GranvitError for a name that is not ``known``."""
    names = getattr(scale.config.report, kind)
    for name in names or []:
        if name not in known:
            raise GranvitError(
                f"config: report.{kind}: there is no '{name}' that can be made; known: {', '.join(known)}"
            )
    return list(dict.fromkeys(made if names is None else names))


def runs_behind(
    scale: Scale, tables: Iterable[TableSpec], seed: int, compared: Iterable[tuple[str, int]]
) -> list[tuple[Recipe, int]]:
    """Each run behind some tables, which show ``seed``, and behind the recipes and seeds ``compared``, with
    all that it starts from; in the order of seeds and names."""
    names = {name for table in tables for name in required_leaves(table) + required_forward_runs(table)}
    found = {(name, seed) for name in names} | set(compared)
    return [
        (run, of)
        for of in sorted({of for _, of in found})
        for run in with_ancestors(scale, sorted(name for name, other in found if other == of))
    ]


def layout_settings(scale: Scale) -> dict[str, Any]:
    """How a scale's report is laid out. The settings that it prints are no reason to make it again: those
    that change a result change one of its files, too."""
    return scale.config.report.model_dump(exclude={"tables", "figures"})


def look() -> str:
    """sha256 of the report's templates and style, which config/steps.yaml does not cover."""
    digest = hashlib.sha256()
    for path in [SITE / "style.css", *sorted((SITE / "templates").iterdir())]:
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()
