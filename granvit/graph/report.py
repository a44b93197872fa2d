"""What the report depends on besides its input files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
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
