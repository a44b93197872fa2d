"""Every cell of the paper's tables as one line: what the paper prints, what was reproduced, and how sure that
is. A tidy CSV, for programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from granvit.config.tables import FORWARD_COLUMNS, RunRow, TableSpec
from granvit.errors import GranvitError
from granvit.files import read_json, write_text
from granvit.reporting.reported import Reported, read_number, read_reported, reported_cell
from granvit.reporting.scores import AVERAGE, Scores, printed_rows

COLUMNS = [
    "table", "row", "column", "reported", "reproduced", "difference", "low", "high", "n", "seeds", "scale",
    "recipe",
]  # fmt: skip
CHANCE = "chance"
COUNTS = ("images", "regions")  # of Tables 6 and 7


def compare_table(
    spec: TableSpec,
    scores_root: str | Path,
    runs_root: str | Path,
    chance_root: str | Path,
    scale: str,
    seed: int,
    out_csv: str | Path,
    reported_csv: str | Path = "config/reported/results.csv",
) -> None:
    """Write every cell of a table that is made from runs, a line each, columns ``COLUMNS``.

    Percent, as the table prints it (OCRBench: out of 1000; Table 9's FLOPs and MACs: a count).
    ``low``, ``high``: 95 % interval over questions (``Scores.interval``); ``n``: questions behind the cell;
    ``seeds``: the seeds it is the mean of. Empty where there is none. Raises GranvitError for a score file,
    manifest or ``reported_csv`` that is missing.
    """
    scores, reported = Scores(scores_root, seed, spec.shared), read_reported(spec, reported_csv)
    if spec.layout.layout == "benchmarks":
        lines = _benchmark_cells(spec, scores, Scores(chance_root, seed, spec.shared), reported)
    else:
        lines = [
            _run_cell(row, column, scores, Path(runs_root), reported)
            for row in spec.layout.rows
            for column in spec.layout.columns
        ]
    cells = pd.DataFrame(lines).assign(table=spec.name, scale=scale, seeds=str(seed))
    cells["reported"] = cells["reported"].astype(float)  # of a table that the paper does not have: no number
    cells["difference"] = (cells["reproduced"] - cells["reported"]).round(2)
    _write(out_csv, cells)


def join_comparisons(
    tables: Sequence[str | Path], data_tables: Sequence[str | Path], out_csv: str | Path
) -> None:
    """Write all cells of ``tables``, files of ``compare_table``, and of ``data_tables``, Tables 6 and 7 as
    CSV, in their order by number. Raises GranvitError for a file that is missing.
    """
    parts = [_read(path, dtype=str, keep_default_na=False) for path in tables]
    parts += [_data_cells(Path(path)) for path in data_tables]
    cells = pd.concat(parts, ignore_index=True)
    number = cells["table"].str.removeprefix("table").astype(int)
    write_text(
        out_csv, cells.loc[number.sort_values(kind="stable").index].to_csv(index=False, lineterminator="\n")
    )


def row_name(label: dict[str, str]) -> str:
    """A row of a table of runs in words: its label, or each of several with its heading."""
    return (
        "; ".join(f"{key}: {text}" for key, text in label.items())
        if len(label) > 1
        else next(iter(label.values()))
    )


def _write(out_csv: str | Path, cells: pd.DataFrame) -> None:
    write_text(out_csv, cells[COLUMNS].to_csv(index=False, float_format="%.12g", lineterminator="\n"))


def _read(path: str | Path, **how: Any) -> pd.DataFrame:
    if not Path(path).is_file():
        raise GranvitError(f"{path}: no such file; make it with `snakemake {path}`")
    return pd.read_csv(path, **how)


def _benchmark_cells(
    spec: TableSpec, scores: Scores, chance: Scores, reported: Reported
) -> list[dict[str, Any]]:
    """Cells of a table with a row a benchmark; the chance column last, as the table has it."""
    columns = [(model, recipe, scores) for model, recipe in spec.layout.models.items()]
    if spec.layout.chance:
        columns.append((CHANCE, spec.layout.chance, chance))
    lines = []
    for capability, benchmark in printed_rows(spec.shared):
        names = spec.shared.capabilities[capability] if benchmark == AVERAGE else [benchmark]
        row = f"{capability} {AVERAGE}" if benchmark == AVERAGE else benchmark
        for model, recipe, of in columns:
            paper = number(reported(None, model, capability, benchmark))
            lines.append({"row": row, "column": model, "reported": paper, **_measured(of, recipe, names)})
    return lines


def _run_cell(row: RunRow, column: str, scores: Scores, runs: Path, reported: Reported) -> dict[str, Any]:
    cell = {
        "row": row_name(row.label),
        "column": column,
        "reported": number(reported_cell(reported, row, column)),
    }
    if column not in FORWARD_COLUMNS:
        return cell | _measured(scores, row.recipe, scores.tables.columns[column])
    manifest = read_json(runs / "stage2" / str(row.forward) / f"seed{scores.seed}" / "manifest.json")
    return cell | {"reproduced": manifest["forward"][FORWARD_COLUMNS[column]], "recipe": row.forward}


def _measured(scores: Scores, recipe: str, names: Sequence[str]) -> dict[str, Any]:
    low, high = scores.interval(recipe, names)
    shown = scores.printed(recipe, names)
    return {
        "reproduced": shown,
        "low": low,
        "high": high,
        "n": scores.questions(recipe, names),
        "recipe": recipe,
    }


def number(printed: str) -> float | None:
    """A number as the paper prints it: ``"91.79"``, ``"3.24T"``; None for a cell without one. Raises
    GranvitError for anything else."""
    return None if printed in ("-", "") else float(read_number(printed))


def _data_cells(path: Path) -> pd.DataFrame:
    """Cells of Table 6 or 7: counts of images and regions, beside the paper's where it has any."""
    table = _read(path)
    kinds = table.columns[:2]
    parts = []
    for name in COUNTS:
        reported, own = table[f"reported_{name}"].astype("Int64"), table[name].astype("Int64")
        rows = [" ".join(dict.fromkeys(map(str, pair))) for pair in table[kinds].itertuples(index=False)]
        parts.append(
            pd.DataFrame(
                {"table": path.stem, "row": rows, "column": name, "reported": reported, "reproduced": own,
                 "difference": own - reported, "scale": table["scale"]}
            ).dropna(subset=["reported", "reproduced"], how="all")
        )  # fmt: skip
    return pd.concat(parts).sort_index(kind="stable").reindex(columns=COLUMNS).astype("string").fillna("")
