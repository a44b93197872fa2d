"""What stand-ins must show before any model is trained on them, read from their manifests.

Chosen before the first GranViT row of the second edition (docs/miniature.md): the LLM can use what it is
told, and the encoders know where their patches are, and only half of what is on them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from granvit.errors import GranvitError
from granvit.miniature.standins.encoders import NORMS
from granvit.miniature.standins.llms import SHAPES

# Key of the manifest, and what it holds for each measure: at least, at most.
_LLM = {
    "caption to box": (0.85, 1.0),
    "caption to box, widened": (0.85, 1.0),
    "box to caption": (0.85, 1.0),
    "box to caption, widened": (0.85, 1.0),
    "reading": (0.7, 1.0),
}
_ENCODER = {"shape": (0.5, 0.65), "word": (0.5, 0.65), "row": (0.9, 1.0), "column": (0.9, 1.0)}


@dataclass(frozen=True)
class Gate:
    """One measure of one stand-in; ``found`` is None where its manifest does not say."""

    standin: str
    measure: str
    low: float
    high: float
    found: float | None

    @property
    def passes(self) -> bool:
        return self.found is not None and self.low <= self.found <= self.high


def gates(standins: Path) -> list[Gate]:
    """Every gate of the stand-ins in the folder ``standins`` (``encoders/`` and ``llms/``).

    Raises GranvitError where a manifest is missing.
    """
    found = []
    for sort, names, key, limits in (
        ("llms", SHAPES, "symbols", _LLM),
        ("encoders", NORMS, "probe", _ENCODER),
    ):
        for name in names:
            file = Path(standins) / sort / name / "manifest.json"
            if not file.is_file():
                raise GranvitError(f"stand-in {name}: {file} is missing; build it with `snakemake standins`")
            measured = json.loads(file.read_text()).get(key, {})
            found += [
                Gate(name, measure, low, high, measured.get(measure))
                for measure, (low, high) in limits.items()
            ]
    return found
