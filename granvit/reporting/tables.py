"""The paper's tables from score files: CSV for programs, Markdown for readers. Layouts are data
(`config/tables.yaml`).

Two layouts: *benchmarks* (Tables 1 and 8: a row a benchmark, a column a model) and *runs* (a row a run, a
column a benchmark or a mean of several).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from granvit.config.tables import FORWARD_COLUMNS, RunRow, TableSpec, required_benchmarks, required_leaves
from granvit.errors import GranvitError
from granvit.files import read_json, write_text
from granvit.reporting import markdown
from granvit.reporting.reported import read_reported, reported_cell
from granvit.reporting.scores import AVERAGE, Scores, printed_rows

MARKS = (
    "Best in bold, second best underlined; a cell within the 95 % interval of either (over questions) has "
    "the same mark."
)


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
        asked = chance_root and table_spec.layout.chance
        chance = Scores(chance_root, seed, table_spec.shared) if asked else None
        numbers, body = _benchmark_table(table_spec, scores, chance, scale)
    else:
        numbers, body = _run_table(table_spec, scores, runs, scale)
    parts = [
        f"# {table_spec.layout.caption}\n",
        markdown.SCALE_NOTES[scale] + " " + MARKS + "\n",
        body,
        *_reported_parts(table_spec, Path(reported_csv)),
        "## How the answers were read\n",
        _reading_body(table_spec, scores),
    ]
    write_text(out_csv, numbers.assign(scale=scale).to_csv(float_format="%.2f", lineterminator="\n"))
    write_text(out_md, "\n".join(parts))


def _benchmark_table(
    spec: TableSpec, scores: Scores, chance: Scores | None, scale: str
) -> tuple[pd.DataFrame, str]:
    """The numbers and the Markdown of a table with a row a benchmark."""
    models = spec.layout.models
    numbers = scores.by_benchmark(models)
    shown = []
    for (capability, name), values in zip(numbers.index, numbers.to_numpy().tolist(), strict=True):
        decimals, lows = (
            2 if name == AVERAGE else digits(spec, name),
            row_lows(spec, scores, capability, name),
        )
        shown.append([capability, name, *_ranked(values, lows, decimals)])
    tag = markdown.scale_tag(scale)
    header = ["Capability", "Benchmark", *(markdown.marked(model, tag) for model in models)]
    if not chance:
        return numbers, markdown.table(header, shown, left=2)
    for row, value in zip(shown, chance.by_benchmark({"chance": spec.layout.chance})["chance"], strict=True):
        row.append(f"{value:.{2 if row[1] == AVERAGE else digits(spec, row[1])}f}")
    body = markdown.table([*header, "chance"], shown, left=2)
    note = "*chance*: the same GranViT model, images shuffled: each question gets another image."
    return numbers, f"{body}\n{note}\n"


def _run_table(spec: TableSpec, scores: Scores, runs: Path, scale: str) -> tuple[pd.DataFrame, str]:
    """The numbers and the Markdown of a table with a row a run."""
    layout, tag = spec.layout, markdown.scale_tag(scale)
    labels = pd.DataFrame([row.label for row in layout.rows])
    cells = {
        column: [_run_cell(row, column, scores, runs) for row in layout.rows] for column in layout.columns
    }
    shown = pd.DataFrame(cells, dtype=object)
    rivals = pd.Series([row.label.get(layout.rank_within or "", "") for row in layout.rows])
    for column in shown.columns.difference(FORWARD_COLUMNS):
        decimals, lows = digits(spec, *spec.shared.columns[column]), column_lows(spec, scores, column)
        for _, values in shown[column].groupby(rivals):
            own = [lows[number] for number in values.index]
            shown.loc[values.index, column] = _ranked(values.tolist(), own, decimals)
    marked = labels.map(lambda text: markdown.marked(text, tag)).join(shown)
    header = [markdown.marked(name, tag) for name in labels] + layout.columns
    body = markdown.table(header, marked.to_numpy().tolist(), left=labels.shape[1])
    return pd.DataFrame(cells).set_index(pd.MultiIndex.from_frame(labels)), body


def digits(spec: TableSpec, *names: str) -> int:
    """Decimals of a benchmark, or of the mean of several; OCRBench is a count."""
    return 0 if len(names) == 1 and spec.shared.benchmarks[names[0]].divide != 1 else 2


def row_lows(spec: TableSpec, scores: Scores, capability: str, name: str) -> list[float]:
    """Lower ends of the intervals of a row of Tables 1 and 8, a model each."""
    names = spec.shared.capabilities[capability] if name == AVERAGE else [name]
    return [scores.interval(recipe, names)[0] for recipe in spec.layout.models.values()]


def column_lows(spec: TableSpec, scores: Scores, column: str) -> list[float]:
    """Lower ends of the intervals of a column of a table of runs, a row each."""
    names = spec.shared.columns[column]
    return [scores.interval(row.recipe, names)[0] for row in spec.layout.rows]


def _ranked(values: Sequence[float], lows: Sequence[float], decimals: int) -> list[str]:
    shown = [round(value, decimals) for value in values]
    return markdown.ranked(shown, [f"{value:.{decimals}f}" for value in values], lows)


def _run_cell(row: RunRow, column: str, scores: Scores, runs: Path) -> float | str:
    if column not in FORWARD_COLUMNS:
        return scores.column(row.recipe, column)
    manifest = runs / "stage2" / str(row.forward) / f"seed{scores.seed}" / "manifest.json"
    return engineering(read_json(manifest)["forward"][FORWARD_COLUMNS[column]])


def engineering(value: float) -> str:
    """An operation count as the paper prints it: ``3240000000000 -> "3.24T"``."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= factor:
            return f"{value / factor:.2f}{letter}"
    return f"{value:.0f}"


def _reported_parts(spec: TableSpec, path: Path) -> list[str]:
    """The section on the paper's own numbers; of a table that the paper does not have, one line that says
    so."""
    if not spec.layout.paper:
        return ["The paper has no such table: nothing of it is *reported*.\n"]
    return ["## The paper's numbers (*reported*)\n", _reported_body(spec, path)]


def _reported_body(spec: TableSpec, path: Path) -> str:
    """The paper's own numbers in the table's layout."""
    reported, layout = read_reported(spec, path), spec.layout
    if layout.layout == "benchmarks":
        header = ["Capability", "Benchmark", *(markdown.marked(model, "reported") for model in layout.models)]
        keys = printed_rows(spec.shared)
        rows = [[*key, *(reported(None, model, *key) for model in layout.models)] for key in keys]
        return markdown.table(header, rows, left=2)
    rows = []
    for row in layout.rows:
        cells = [reported_cell(reported, row, column) for column in layout.columns]
        rows.append([*(markdown.marked(text, "reported") for text in row.label.values()), *cells])
    labels = list(layout.rows[0].label)
    return markdown.table([*labels, *layout.columns], rows, left=len(labels))


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
        judges = "; ".join(dict.fromkeys(file["judge"] for file in files))  # one model's may have failed
        rows.append([benchmark, str(files[0]["n"]), files[0]["rule"], judges, unread, official])
    header = ["Benchmark", "Questions", "Rule", "Judge", "Answers not read", "Data"]
    return markdown.table(header, rows, left=len(header))
