"""What figures depend on besides their input files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from granvit.graph.scale import Scale


def shown_runs(
    scale: Scale, recipes: Iterable[str], settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The facts of a figure of some runs: each recipe with its hash, and the settings that chose them."""
    hashes = {name: scale.recipe(name).hash for name in recipes}
    return {"scale": scale.name, "recipes": hashes, "settings": settings or {}}
