"""What the paper reports of a claim, from its printed numbers: none is typed in config/claims.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from granvit.config.claims import Claim, Endpoint
from granvit.config.tables import TableSpec
from granvit.reporting.comparison import number
from granvit.reporting.reported import read_printed, read_reported, reported_cell
from granvit.reporting.scores import AVERAGE


class Printed:
    """The paper's numbers from ``folder`` (config/reported), by the names of tables, rows and columns, and of
    Fig. 4 by the ``stages`` (recipe -> stage) of its runs. Raises GranvitError where a file is missing.
    """

    def __init__(self, folder: Path, tables: Mapping[str, TableSpec], stages: Mapping[str, str]) -> None:
        self.folder, self.tables, self.stages = folder, tables, stages

    def effect(self, claim: Claim) -> float | None:
        """What the paper's printed numbers make of a claim, as the reproduced ones are computed; None where
        it prints no number of one of them."""
        values = {name: self._value(claim.endpoint, name) for name in claim.compare.recipes}
        if None in values.values():
            return self._difference(claim)
        sums = [
            sum(weight * values[name] for name, weight in contrast.items())
            for contrast in claim.compare.contrasts
        ]
        return round(min(sums), 4)

    def _value(self, endpoint: Endpoint, recipe: str) -> float | None:
        if endpoint.heldout:
            return self._curve(endpoint, self.stages.get(recipe, ""))
        if not endpoint.table:
            return None
        spec = self.tables[endpoint.table]
        found = [self._cell(spec, recipe, name) for name in endpoint.columns or []]
        return None if None in found else sum(found) / len(found)

    def _difference(self, claim: Claim) -> float | None:
        """A difference that a figure's caption says without its two sides."""
        compare, stages = claim.compare, self.stages
        if not (claim.endpoint.heldout and compare.minus):
            return None
        return self._curve(claim.endpoint, f"{stages.get(str(compare.of))}-{stages.get(compare.minus)}")

    def _cell(self, spec: TableSpec, recipe: str, column: str) -> float | None:
        reported = read_reported(spec, self.folder / "results.csv")
        if spec.layout.layout == "runs":
            rows = [row for row in spec.layout.rows if row.recipe == recipe]
            return number(reported_cell(reported, rows[0], column)) if rows else None
        model = next((name for name, run in spec.layout.models.items() if run == recipe), "")
        groups = {name: group for group, names in spec.shared.capabilities.items() for name in names}
        key = (column, AVERAGE) if column in spec.shared.capabilities else (groups.get(column, ""), column)
        return number(reported(None, model, *key))

    def _curve(self, endpoint: Endpoint, run: str) -> float | None:
        printed = self._curves
        values = [printed.get((run, name)) for name in (endpoint.heldout, endpoint.less) if name]
        return None if None in values else values[0] - sum(values[1:])

    @cached_property
    def _curves(self) -> dict[tuple[str, str], float]:
        rows = read_printed(self.folder / "curves.csv")
        return {(row.run, row.metric): float(row.value) for row in rows.itertuples()}
