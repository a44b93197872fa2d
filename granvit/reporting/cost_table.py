"""What the rows of a table took to train, beside each other: a line a row, and in the CSV a line a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from granvit.config.tables import TableSpec
from granvit.errors import GranvitError
from granvit.files import write_csv, write_text
from granvit.reporting import markdown
from granvit.reporting.comparison import row_name
from granvit.reporting.tables import engineering

SUMMED = ("images", "supervised_tokens", "tokens", "flops", "teacher_flops", "seconds", "device_hours")
ALL = "all"  # the run of a line that sums a row's
COLUMNS = ["row", "run", "stage", *SUMMED, "devices", "scale"]
HEADER = ["Row", "Runs", "Images", "Supervised tokens", "Tokens", "FLOPs", "of the teacher", "Device time"]
NOTES = (
    "All runs that a row starts from are counted, and a run that several rows share in each of them. "
    "*Images*: each as often as it was seen. *Tokens*: image, text and template in front of the language "
    "model; *supervised*: answers and end tokens, or the texts that regions are contrasted with. *FLOPs*: "
    "matrix products of forward and backward of an average image (docs/training.md, Cost), without held-out "
    "evaluation. *Device time*: seconds times devices; only times of one machine can be compared.\n"
)


def rows_of(spec: TableSpec) -> dict[str, str]:
    """The rows of a table and the recipe of each, by their names: a model, or the first word of a label where
    it tells the rows apart, else the whole label."""
    if spec.layout.models:
        return spec.layout.models
    rows = spec.layout.rows
    short = {next(iter(row.label.values())): row.recipe for row in rows}
    return short if len(short) == len(rows) else {row_name(row.label): row.recipe for row in rows}


def make_cost_table(
    spec: TableSpec,
    lineages: Mapping[str, Sequence[str]],
    costs: Mapping[str, Mapping[str, Any]],
    baseline: str,
    scale: str,
    out_csv: str | Path,
    out_md: str | Path,
) -> None:
    """Write the table. ``lineages``: recipe of a row -> the runs behind it, itself among them; ``costs``:
    what each took (``granvit.training.ledger``); ``baseline``: the recipe whose FLOPs are 1. Raises
    GranvitError where that one is no row.
    """
    lines, shown = [], []
    rows, totals = rows_of(spec), {}
    if baseline not in rows.values():
        raise GranvitError(
            f"config/tables.yaml: '{baseline}', whose cost is 1, is no row of {spec.name}; add it there"
        )
    for name, recipe in rows.items():
        behind = [costs[run] for run in lineages[recipe]]
        totals[recipe] = {key: sum(cost[key] for cost in behind) for key in SUMMED}
        lines += [_line(name, cost["run"], cost["stage"], cost, cost["devices"], scale) for cost in behind]
        lines.append(_line(name, ALL, "", totals[recipe], "", scale))
    for name, recipe in rows.items():
        total = totals[recipe]
        shown.append([
            markdown.marked(name, markdown.scale_tag(scale)),
            str(len(lineages[recipe])),
            *(engineering(total[key]) for key in ("images", "supervised_tokens", "tokens")),
            _against(total["flops"], totals[baseline]["flops"]),
            f"{100 * total['teacher_flops'] / total['flops']:.1f} %",
            _duration(total["device_hours"]),
        ])  # fmt: skip
    write_csv(out_csv, COLUMNS, lines)
    title = f"# What it took: {spec.layout.caption}\n"
    body = markdown.table(HEADER, shown, left=1)
    write_text(out_md, "\n".join([title, markdown.SCALE_NOTES[scale] + "\n", body, NOTES]))


def _line(name: str, run: str, stage: str, cost: Mapping[str, Any], devices: object, scale: str) -> list:
    return [name, run, stage, *(f"{cost[key]:.6g}" if isinstance(cost[key], float) else cost[key]
                                for key in SUMMED), devices, scale]  # fmt: skip


def _against(flops: float, baseline: float) -> str:
    return f"{engineering(flops)} ({flops / baseline:.2f} x)"


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
