"""The paper's tables from score files: CSV for programs, Markdown for readers. Layouts are data
(`config/tables.yaml`).

Two layouts: *benchmarks* (Tables 1 and 8: a row a benchmark, a column a model) and *runs* (a row a run, a
column a benchmark or a mean of several).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from granvit.config.tables import (
    FORWARD_COLUMNS,
    RunRow,
    TableSpec,
    load_tables,
    required_benchmarks,
    required_forward_runs,
    required_leaves,
)
from granvit.errors import GranvitError
from granvit.files import write_csv, write_text
from granvit.reporting import markdown
from granvit.reporting.scores import AVERAGE, Scores, read_json

__all__ = [
    "load_tables",
    "make_table",
    "required_benchmarks",
    "required_forward_runs",
    "required_leaves",
]

Reported = Callable[[str | None, str, str, str], str]


def make_table(
    table_spec: TableSpec,
    scores_root: str | Path,
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
    reported_csv: str | Path = "config/reported/results.csv",
    chance_root: str | Path | None = None,
    seed: int = 0,
    runs_root: str | Path | None = None,
) -> None:
    """Write one table.

    ``scores_root`` holds ``{recipe}/seed{N}/{slug}.json``; ``chance_root`` the same for shuffled images;
    ``runs_root`` (default: beside the scores) the runs, of which Table 9 reads manifests. Raises GranvitError
    naming the file that is missing and the command that makes it.
    """
    if scale not in markdown.SCALE_NOTES:
        raise GranvitError(f"scale is '{scale}'; expected one of {', '.join(markdown.SCALE_NOTES)}")
    scores = Scores(scores_root, seed, table_spec.shared)
    runs = Path(runs_root) if runs_root else Path(scores_root).parent
    if table_spec.layout.layout == "benchmarks":
        chance = (
            Scores(chance_root, seed, table_spec.shared) if chance_root and table_spec.layout.chance else None
        )
        header, rows, body = _benchmark_rows(table_spec, scores, chance, scale)
    else:
        header, rows, body = _run_rows(table_spec, scores, runs, scale)
    parts = [
        f"# {table_spec.layout.caption}\n",
        markdown.SCALE_NOTES[scale] + " Best in bold, second best underlined.\n",
        body,
        "## The paper's numbers (*reported*)\n",
        _reported_body(table_spec, Path(reported_csv)),
        "## How the answers were read\n",
        _reading_body(table_spec, scores),
    ]
    write_csv(out_csv, [*header, "scale"], ([*row, scale] for row in rows))
    write_text(out_md, "\n".join(parts))


def printed_rows(spec: TableSpec) -> list[tuple[str, str, list[str]]]:
    """(capability, printed name, benchmarks behind it) of each row of Tables 1 and 8."""
    rows = []
    for capability, names in spec.shared.capabilities.items():
        rows += [(capability, name, [name]) for name in names]
        rows.append((capability, AVERAGE, names))
    return rows


def _benchmark_rows(
    spec: TableSpec, scores: Scores, chance: Scores | None, scale: str
) -> tuple[list[str], list[list[str]], str]:
    """CSV header and rows, and the Markdown, of a table with a row a benchmark."""
    models = spec.layout.models
    rows, shown = [], []
    for capability, name, members in printed_rows(spec):

        def value(source: Scores, recipe: str, name: str = name, members: list[str] = members) -> float:
            return source.mean(recipe, members) if name == AVERAGE else source.cell(recipe, name)

        values = [value(scores, recipe) for recipe in models.values()]
        rows.append([capability, name, *(f"{v:.2f}" for v in values)])
        digits = (
            2 if name == AVERAGE or spec.shared.benchmarks[name].divide == 1 else 0
        )  # OCRBench is a count
        cells = markdown.ranked([round(v, digits) for v in values], [f"{v:.{digits}f}" for v in values])
        if chance:
            cells.append(f"{value(chance, spec.layout.chance):.{digits}f}")
        shown.append([capability, name, *cells])
    tag = markdown.scale_tag(scale)
    header = ["Capability", "Benchmark", *(markdown.marked(model, tag) for model in models)]
    body = markdown.table(header + (["chance"] if chance else []), shown, left=2)
    if chance:
        body += "\n*chance*: the same GranViT model, images shuffled: each question gets another image.\n"
    return ["capability", "benchmark", *models], rows, body


def _run_rows(
    spec: TableSpec, scores: Scores, runs: Path, scale: str
) -> tuple[list[str], list[list[str]], str]:
    """CSV header and rows, and the Markdown, of a table with a row a run."""
    layout = spec.layout
    texts = [[_run_cell(row, column, scores, runs) for column in layout.columns] for row in layout.rows]
    shown = [list(row) for row in texts]
    for at, column in enumerate(layout.columns):
        if column in FORWARD_COLUMNS:
            continue
        digits = 0 if _is_count(spec, column) else 2
        for group in _rank_groups(spec):
            values = [round(float(texts[i][at]), digits) for i in group]
            for i, text in zip(
                group, markdown.ranked(values, [f"{v:.{digits}f}" for v in values]), strict=True
            ):
                shown[i][at] = text
    labels = list(layout.rows[0].label)
    tag = markdown.scale_tag(scale)
    header = [markdown.marked(name, tag) for name in labels] + layout.columns
    named = [[markdown.marked(text, tag) for text in row.label.values()] for row in layout.rows]
    body = markdown.table(header, [a + b for a, b in zip(named, shown, strict=True)], left=len(labels))
    rows = [[*row.label.values(), *cells] for row, cells in zip(layout.rows, texts, strict=True)]
    return [*labels, *layout.columns], rows, body


def _run_cell(row: RunRow, column: str, scores: Scores, runs: Path) -> str:
    if column not in FORWARD_COLUMNS:
        return f"{scores.column(row.recipe, column):.2f}"
    manifest = runs / "stage2" / str(row.forward) / f"seed{scores.seed}" / "manifest.json"
    return engineering(read_json(manifest)["forward"][FORWARD_COLUMNS[column]])


def engineering(value: float) -> str:
    """An operation count as the paper prints it: ``3240000000000 -> "3.24T"``."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= factor:
            return f"{value / factor:.2f}{letter}"
    return f"{value:.0f}"


def _is_count(spec: TableSpec, column: str) -> bool:
    names = spec.shared.columns[column]
    return len(names) == 1 and spec.shared.benchmarks[names[0]].divide != 1


def _rank_groups(spec: TableSpec) -> list[list[int]]:
    """Rows that are ranked against each other."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(spec.layout.rows):
        groups.setdefault(row.label.get(spec.layout.rank_within or "", ""), []).append(i)
    return list(groups.values())


def _read_reported(spec: TableSpec, path: Path) -> Reported:
    """A look-up of the paper's printed numbers: (LLM, model, group, benchmark) -> text, "-" where none is
    printed.
    """
    if not path.is_file():
        raise GranvitError(
            f"{path}: the paper's numbers are missing; restore the file with `git checkout -- {path}`"
        )
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == spec.number]
    spelling = spec.shared.spelling
    values = {}
    for row in rows:
        model = spelling.get(row["model"], row["model"])
        for llm in (None, row["llm"]):
            values[llm, model, row["group"], row["benchmark"]] = row["value"]
    return lambda llm, model, group, benchmark: values.get((llm, model, group, benchmark), "-")


def _reported_body(spec: TableSpec, path: Path) -> str:
    """The paper's own numbers in the table's layout."""
    reported, layout = _read_reported(spec, path), spec.layout
    if layout.layout == "benchmarks":
        header = ["Capability", "Benchmark", *(markdown.marked(model, "reported") for model in layout.models)]
        rows = [
            [capability, name, *(reported(None, model, capability, name) for model in layout.models)]
            for capability, name, _ in printed_rows(spec)
        ]
        return markdown.table(header, rows, left=2)
    labels = list(layout.rows[0].label)
    rows = []
    for row in layout.rows:
        cells = [_reported_cell(reported, row, column) for column in layout.columns]
        rows.append([*(markdown.marked(text, "reported") for text in row.label.values()), *cells])
    return markdown.table([*labels, *layout.columns], rows, left=len(labels))


def _reported_cell(reported: Reported, row: RunRow, column: str) -> str:
    """A column is an average of its group, a group of its own (FLOPs), or a benchmark without a group."""
    llm, model = row.label.get("LLM"), row.reported or list(row.label.values())[-1]
    found = [reported(llm, model, *key) for key in ((column, AVERAGE), (column, column), ("", column))]
    return next((text for text in found if text != "-"), "-")


def _reading_body(spec: TableSpec, scores: Scores) -> str:
    """Which judge read each benchmark's answers, and the share of them that could not be read."""
    rows = []
    for benchmark in required_benchmarks(spec):
        files = [scores.file(recipe, benchmark) for recipe in required_leaves(spec)]
        shares = [
            100 * file["failed_extractions"] for file in files if file.get("failed_extractions") is not None
        ]
        unread = f"{min(shares):.1f}-{max(shares):.1f} %" if shares else "-"
        official = "official" if all(file.get("official_data") for file in files) else "not the official file"
        rows.append([benchmark, str(files[0]["n"]), files[0]["rule"], files[0]["judge"], unread, official])
    header = ["Benchmark", "Questions", "Rule", "Judge", "Answers not read", "Data"]
    return markdown.table(header, rows, left=len(header))
