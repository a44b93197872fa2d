"""The gates of the miniature as a table: what stand-ins, a baseline and PaddleOCR's boxes show, against
`config/gates.yaml`.

They are looked at before any GranViT model is trained, so that a miniature is accepted for what its parts do,
never for who wins on it (docs/miniature.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from granvit.config.gates import Gates, Limits
from granvit.config.tables import TablesFile
from granvit.files import read_json, write_csv, write_text
from granvit.reporting import markdown
from granvit.reporting.scores import Scores

COLUMNS = ["what", "measure", "at least", "at most", "found", "passes"]


class Gate(NamedTuple):
    """One measure, the lowest and highest value that it may have, and what was found (None: not measured)."""

    what: str
    measure: str
    low: float
    high: float
    found: float | None

    @property
    def passes(self) -> bool:
        return self.found is not None and self.low <= self.found <= self.high


def standin_gates(limits: Limits, manifests: Mapping[str, Path], section: str) -> Iterator[Gate]:
    """One sort of stand-ins: the measures under ``section`` of each one's manifest (name -> file)."""
    for name, file in manifests.items():
        found = read_json(file).get(section, {})
        yield from (Gate(name, measure, *ends, found.get(measure)) for measure, ends in limits.items())


def baseline_gates(
    gates: Gates, tables: TablesFile, scores: Path, chance: Path, symbols: Mapping[str, float]
) -> Iterator[Gate]:
    """The baseline's means on dev, in percent: the lower end of its interval above the upper end of what
    shuffled images give, and itself at most a share of what its LLM answers when it is told (``symbols``)."""
    baseline = gates.baseline
    told, shuffled = (Scores(root, baseline.seed, tables) for root in (scores, chance))
    for name, capability in baseline.capabilities.items():
        low, _ = told.interval(baseline.recipe, capability.rows)
        _, high = shuffled.interval(baseline.recipe, capability.rows)
        yield Gate(baseline.recipe, f"{name}, lower end of its interval", high, 100.0, low)
        most = round(100 * baseline.most * symbols[capability.ceiling], 2)
        yield Gate(baseline.recipe, name, 0.0, most, told.mean(baseline.recipe, capability.rows))


def page_gate(gates: Gates, losses: Path) -> Gate:
    """The loss by PaddleOCR's boxes divided by that by the ink's (`miniature.page_boxes`)."""
    found = read_json(losses)
    measure = f"loss by PaddleOCR's boxes : by the ink's ({found['questions']} texts)"
    return Gate(gates.pages.recipe, measure, 0.0, gates.pages.most, round(found["ratio"], 4))


def write_gates(rows: list[Gate], scale: str, out_csv: str | Path, out_md: str | Path) -> None:
    """All gates as CSV, and as Markdown with the number of those that fail."""
    cells = [[*row, "yes" if row.passes else "NO"] for row in rows]
    write_csv(out_csv, COLUMNS, cells)
    failed = sum(not row.passes for row in rows)
    verdict = f"{failed} of {len(rows)} gates fail." if failed else f"All {len(rows)} gates pass."
    shown = [["" if cell is None else str(cell) for cell in row] for row in cells]
    write_text(
        out_md,
        f"# Gates of the miniature, {scale} scale\n\n{verdict}\n\n{markdown.table(COLUMNS, shown, left=2)}",
    )
