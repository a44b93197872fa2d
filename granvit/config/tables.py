"""What `config/tables.yaml` may say: which recipe and which benchmark fill which cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from granvit.config.base import Strict
from granvit.config.reading import check, read_yaml
from granvit.errors import GranvitError


class Cell(Strict):
    """A printed benchmark: which score file holds it, which split of it, and its divisor inside averages."""

    benchmark: str
    split: str | None = None
    divide: int = 1


class RunRow(Strict):
    """A row that is one run.

    ``reported``: the paper's name of the row, if not its label; ``forward``: see Table 9.
    """

    label: dict[str, str]
    recipe: str
    reported: str | None = None
    forward: str | None = None


class Layout(Strict):
    """One table as it stands in the file. ``paper``: whether it is one of the paper's; the others have no
    reported numbers, and are made by ``snakemake beyond`` alone."""

    # Left out where it says what every table was before there was a choice
    paper: Annotated[bool, Field(exclude_if=lambda paper: paper)] = True
    layout: Literal["benchmarks", "runs"]
    caption: str
    models: dict[str, str] = {}
    chance: str | None = None
    columns: list[str] = []
    rank_within: str | None = None
    rows: list[RunRow] = []


class TablesFile(Strict):
    """All of `config/tables.yaml`."""

    spelling: dict[str, str]
    benchmarks: dict[str, Cell]
    capabilities: dict[str, list[str]]
    columns: dict[str, list[str]]
    tables: dict[str, Layout]


class TableSpec(Strict):
    """One table with everything that it refers to."""

    name: str
    layout: Layout
    shared: TablesFile

    @property
    def number(self) -> str:
        """The table's number in the paper."""
        return self.name.removeprefix("table")

    @property
    def settings(self) -> dict[str, Any]:
        """What the cells are made of: the table's own layout, and the averages that all tables share."""
        return self.layout.model_dump() | self.shared.model_dump(exclude={"tables"})


FORWARD_COLUMNS = {"FLOPs": "flops", "MACs": "macs"}  # measured, in a run's manifest; not scores


def load_tables(path: str | Path = "config/tables.yaml") -> dict[str, TableSpec]:
    """All tables by name (``table1``, ...). Raises GranvitError naming the key that is wrong."""
    content = check(TablesFile, read_yaml(path), str(path))
    for name, members in [*content.capabilities.items(), *content.columns.items()]:
        for member in members:
            if member not in content.benchmarks:
                raise GranvitError(f"{path}: {name}: '{member}' is not under 'benchmarks'; correct the name")
    for name, layout in content.tables.items():
        for column in layout.columns:
            if column not in content.columns and column not in FORWARD_COLUMNS:
                raise GranvitError(
                    f"{path}: {name}: column '{column}' is not under 'columns'; correct the name"
                )
    return {
        name: TableSpec(name=name, layout=layout, shared=content) for name, layout in content.tables.items()
    }


def required_leaves(spec: TableSpec) -> list[str]:
    """The recipes whose scores fill the table, in its order, each once."""
    recipes = [*spec.layout.models.values(), *(row.recipe for row in spec.layout.rows)]
    return list(dict.fromkeys(recipes))


def required_forward_runs(spec: TableSpec) -> list[str]:
    """The stage-2 recipes whose manifests the table reads (Table 9's cost of a forward pass)."""
    return list(dict.fromkeys(row.forward for row in spec.layout.rows if row.forward))


def required_benchmarks(spec: TableSpec) -> list[str]:
    """The benchmarks (names of config/benchmarks.tsv) that the table's cells need."""
    shared = spec.shared
    groups = [shared.columns[column] for column in spec.layout.columns if column in shared.columns]
    members = [member for group in groups or shared.capabilities.values() for member in group]
    return list(dict.fromkeys(shared.benchmarks[member].benchmark for member in members))
