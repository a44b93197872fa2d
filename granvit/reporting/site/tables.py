"""The tables as the report shows them: each number beside the paper's, and where its link leads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from granvit.config.tables import FORWARD_COLUMNS, TablesFile, TableSpec
from granvit.reporting import markdown
from granvit.reporting.reported import read_reported, reported_cell
from granvit.reporting.scores import AVERAGE, Scores
from granvit.reporting.site.places import Answered, cell_page, mean_page, run_page, seeds_page
from granvit.reporting.site.record import read_table
from granvit.reporting.tables import column_lows, digits, row_lows

# Columns of the data tables that are, or come from, the paper's counts
_REPORTED = ("reported_", "table6_", "gap_")


@dataclass(frozen=True)
class Number:
    """A cell: its ``text``, the page behind it, the paper's number, and its ``place`` (1 best, 2 second);
    ``reported``: the text itself is, or is made with, the paper's."""

    text: str
    href: str = ""
    paper: str = ""
    place: int = 0
    reported: bool = False


@dataclass(frozen=True)
class Label:
    """The head of a row, over ``rows`` rows; 0: an earlier row's label covers this one."""

    text: str
    rows: int = 1


@dataclass
class TableView:
    name: str
    caption: str
    labels: list[str]
    columns: list[tuple[str, bool]]  # with whether a column is the paper's
    rows: list[tuple[list[Label], list[Number]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def has_paper(self) -> bool:
        return any(number.paper for _, numbers in self.rows for number in numbers)


@dataclass(frozen=True)
class Mean:
    """A mean of printed benchmarks: a page of its own says of which."""

    name: str
    members: tuple[str, ...]


def means_of(shared: TablesFile) -> dict[str, Mean]:
    """Every mean that a table may show, by page name: averages of Table 1's capabilities, columns of several.

    An average and a column of the same name may have different members, so the former are ``average-*``.
    """
    found = {
        f"average {name}": Mean(f"average {name}", tuple(of)) for name, of in shared.capabilities.items()
    }
    columns = {name: Mean(name, tuple(of)) for name, of in shared.columns.items() if len(of) > 1}
    return found | columns


def labelled(rows: Sequence[Sequence[str]]) -> list[list[Label]]:
    """Row heads; where there are two columns, equal neighbours in the first become one that covers them
    all."""
    heads = [[Label(text) for text in row] for row in rows]
    if not heads or len(heads[0]) != 2:
        return heads
    at = 0
    for _, same in itertools.groupby(rows, key=lambda row: row[0]):
        length = len(list(same))
        for row in range(at, at + length):
            heads[row][0] = Label(rows[row][0], length if row == at else 0)
        at += length
    return heads


def score_table(spec: TableSpec, results: Path, scale: str, seed: int, reported_csv: Path) -> TableView:
    """A table of config/tables.yaml, from its CSV. Raises GranvitError where that is missing."""
    header, rows = read_table(results / "tables" / f"{spec.name}.csv")
    layout = spec.layout
    if layout.layout == "benchmarks":
        return _benchmark_table(spec, rows, results, scale, seed, reported_csv)
    labels, tag = list(layout.rows[0].label), markdown.scale_tag(scale)
    columns = [(name, False) for name in layout.columns]
    view = TableView(spec.name, layout.caption, labels, columns)
    reported = read_reported(spec, reported_csv)
    texts = [row[len(labels) : len(labels) + len(columns)] for row in rows]
    ranks = _ranks_of_runs(spec, texts, Scores(results / "scores", seed, spec.shared))
    heads = labelled([[markdown.marked(text, tag) for text in row.label.values()] for row in layout.rows])
    for number, (row, head) in enumerate(zip(layout.rows, heads, strict=True)):
        answered = Answered(row.recipe, seed)
        cells = []
        for place, column in enumerate(layout.columns):
            text = texts[number][place]
            if column in FORWARD_COLUMNS:
                href = run_page(str(row.forward), seed)
            else:
                href = _column_page(spec, answered, column)
                text = f"{float(text):.{digits(spec, *spec.shared.columns[column])}f}"
            paper = reported_cell(reported, row, column)
            cells.append(Number(text, href, paper, ranks[place][number]))
        view.rows.append((head, cells))
    return view


def _column_page(spec: TableSpec, answered: Answered, column: str) -> str:
    members = spec.shared.columns[column]
    return cell_page(answered, members[0]) if len(members) == 1 else mean_page(answered, column)


def _ranks_of_runs(spec: TableSpec, texts: Sequence[Sequence[str]], scores: Scores) -> list[list[int]]:
    """Places by column, then row: among the rows that the table compares."""
    layout = spec.layout
    rivals = [row.label.get(layout.rank_within or "", "") for row in layout.rows]
    ranks = [[0] * len(texts) for _ in layout.columns]
    for place, column in enumerate(layout.columns):
        if column in FORWARD_COLUMNS:
            continue
        lows = column_lows(spec, scores, column)
        for group in dict.fromkeys(rivals):
            members = [number for number, rival in enumerate(rivals) if rival == group]
            values = [float(texts[number][place]) for number in members]
            places = markdown.places(values, [lows[number] for number in members])
            for number, rank in zip(members, places, strict=True):
                ranks[place][number] = rank
    return ranks


def _benchmark_table(
    spec: TableSpec, rows: Sequence[Sequence[str]], results: Path, scale: str, seed: int, reported_csv: Path
) -> TableView:
    layout, tag = spec.layout, markdown.scale_tag(scale)
    models = {name: Answered(recipe, seed) for name, recipe in layout.models.items()}
    columns = [(markdown.marked(name, tag), False) for name in models]
    chance = _chance(spec, results, seed)
    if chance:
        columns.append(("chance", False))
    view = TableView(spec.name, layout.caption, ["Capability", "Benchmark"], columns)
    reported, scores = read_reported(spec, reported_csv), Scores(results / "scores", seed, spec.shared)
    heads = labelled([row[:2] for row in rows])
    for head, (capability, name, *texts) in zip(heads, rows, strict=True):
        decimals = 2 if name == AVERAGE else digits(spec, name)
        values = [float(text) for text in texts[: len(models)]]
        lows = row_lows(spec, scores, capability, name)
        ranks = markdown.places([round(value, decimals) for value in values], lows)
        cells = [
            Number(
                f"{value:.{decimals}f}",
                _row_page(answered, capability, name),
                reported(None, model, capability, name),
                rank,
            )
            for (model, answered), value, rank in zip(models.items(), values, ranks, strict=True)
        ]
        if chance:
            other = Answered(str(layout.chance), seed, chance=True)
            text = f"{chance[capability, name]:.{decimals}f}"
            cells.append(Number(text, _row_page(other, capability, name)))
        view.rows.append((head, cells))
    if chance:
        view.notes.append(
            "chance: the same GranViT model, images shuffled: each question gets another image."
        )
    return view


def _chance(spec: TableSpec, results: Path, seed: int) -> Mapping[tuple[str, str], float]:
    if not spec.layout.chance:
        return {}
    scores = Scores(results / "chance" / "scores", seed, spec.shared)
    return scores.by_benchmark({"chance": spec.layout.chance})["chance"].to_dict()


def _row_page(answered: Answered, capability: str, name: str) -> str:
    return mean_page(answered, f"average {capability}") if name == AVERAGE else cell_page(answered, name)


def data_table(name: str, results: Path, href: Callable[[str], str]) -> TableView:
    """Table 6 or 7, from its CSV; ``href``: the page behind the numbers of a source or group."""
    header, rows = read_table(results / "tables" / f"{name}.csv")
    columns = header[2:-1]
    theirs = [column.startswith(_REPORTED) or column.endswith("_difference") for column in columns]
    caption = {"table6": "Table 6: data sources of Gran-29M", "table7": "Table 7: Gran-29M by group"}[name]
    labels = [header[0].replace("_", " ").capitalize(), header[1].capitalize()]
    shown = [(_heading(column), its) for column, its in zip(columns, theirs, strict=True)]
    view = TableView(name, caption, labels, shown)
    for head, row in zip(labelled([row[:2] for row in rows]), rows, strict=True):
        numbers = [
            Number(_thousands(text), "" if its or not text else href(row[1]), reported=its)
            for text, its in zip(row[2:-1], theirs, strict=True)
        ]
        view.rows.append((head, numbers))
    view.notes.append("reported: the paper's count; difference and gap are made with it.")
    return view


def _heading(column: str) -> str:
    for prefix, text in (
        ("reported_", "{} (reported)"),
        ("table6_", "{}, Table 6 (reported)"),
        ("gap_", "{}, gap"),
    ):
        if column.startswith(prefix):
            return text.format(column.removeprefix(prefix).capitalize())
    return column.replace("_", ", ").capitalize()


def _thousands(text: str) -> str:
    return f"{int(text):,}" if text.lstrip("-").isdecimal() else text


def seeds_table(results: Path) -> TableView:
    """Table 1 over several seeds, from its CSV."""
    header, rows = read_table(results / "tables" / "seeds.csv")
    columns = [(column, False) for column in header[2:-2]]
    view = TableView("seeds", "Table 1 over several seeds", ["Capability", "Benchmark"], columns)
    for head, row in zip(labelled([row[:2] for row in rows]), rows, strict=True):
        href = seeds_page(row[0], row[1])
        view.rows.append((head, [Number(text, href) for text in row[2:-2]]))
    view.notes.append("sd: sample standard deviation over the seeds.")

    return view
