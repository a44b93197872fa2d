"""``granvit runs``, ``runs show NAME``, ``runs diff A B``: what has been trained."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from granvit.reporting.finished_runs import Run

_SHOWN = ("loss", "heldout_rouge_l", "heldout_acc_iou50")  # of the final metrics, in the list of runs


def add_commands(groups: Any) -> None:
    """Add the group `runs` to the command line; alone, it lists."""
    group = groups.add_parser(
        "runs", help="what has been trained: recipes, seeds, metrics, time, size, and what used them",
        epilog="example: granvit runs; granvit runs show sft-granvit; "
        "granvit runs diff sft-granvit sft-siglip2",
    )  # fmt: skip
    _common(group)
    group.set_defaults(run=run_list)
    commands = group.add_subparsers(metavar="COMMAND")

    show = commands.add_parser(
        "show", help="all about one run", epilog="example: granvit runs show mini/sft-granvit/seed0 --json"
    )
    show.add_argument("name", help="recipe, SCALE/RECIPE, RECIPE/seedN, or the run's folder")
    _common(show, defaults=False)
    show.set_defaults(run=run_show)

    diff = commands.add_parser(
        "diff", help="what two runs' recipes and results say otherwise",
        epilog="example: granvit runs diff sft-granvit sft-siglip2",
    )  # fmt: skip
    diff.add_argument("a", help="a run, as in `runs show`")
    diff.add_argument("b", help="another one")
    _common(diff, defaults=False)
    diff.set_defaults(run=run_diff)


def _common(command: argparse.ArgumentParser, defaults: bool = True) -> None:
    """Options that may stand before a subcommand and behind it; only the group has their defaults."""
    missing: dict[str, Any] = {} if defaults else {"default": argparse.SUPPRESS}
    command.add_argument(
        "--results", help="folder that holds {scale}/ (results)", **({"default": "results"} | missing)
    )
    command.add_argument("--json", action="store_true", help="print JSON instead", **missing)


def run_list(arguments: argparse.Namespace) -> int:
    """Print a line a run, the newest last."""
    from granvit.reporting.finished_runs import finished_runs, used_by

    runs = finished_runs(arguments.results)
    rows = [_facts(run, used_by(run, runs)) for run in runs]
    if arguments.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    header = ("run", "stage", "steps", "images", "loss", "ROUGE-L", "IoU>0.5", "time", "size", "used by")
    lines = [[_cell(row, key) for key in _COLUMNS] for row in rows]
    print(_table([header, *lines]) if rows else f"{arguments.results}: no finished run there")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Print what is known of one run."""
    from granvit.reporting.finished_runs import find_run, finished_runs, flattened, taught, used_by

    run = find_run(arguments.results, arguments.name)
    runs = finished_runs(run.results)
    facts = _facts(run, used_by(run, runs))
    facts |= {"can": sorted(taught(run, runs)), "folder": str(run.folder), "scores": run.scores}
    if arguments.json:
        print(json.dumps({**facts, "manifest": run.manifest}, indent=2, ensure_ascii=False))
        return 0
    head = [("folder", facts["folder"]), ("finished", facts["finished"]), ("time", _time(facts["seconds"]))]
    head += [("size", _size(facts["size"])), ("can", ", ".join(facts["can"]))]
    head += [("used by", ", ".join(facts["used_by"]) or "-")]
    flat = flattened(run.manifest)
    print(run.label)
    print(_table([(f"  {key}", str(value)) for key, value in [*head, *flat.items()]]))
    for name, score in run.scores.items():
        low, high = score.get("interval", (float("nan"),) * 2)
        print(f"  score {name:16}{score['score']:9.2f}  [{low:.2f}, {high:.2f}]")
    return 0


def run_diff(arguments: argparse.Namespace) -> int:
    """Print what differs, a line a key."""
    from granvit.reporting.finished_runs import differences, find_run

    a, b = (find_run(arguments.results, name) for name in (arguments.a, arguments.b))
    found = differences(a, b)
    if arguments.json:
        pairs = {key: {"a": pair[0], "b": pair[1]} for key, pair in found.items()}
        print(json.dumps({"a": a.label, "b": b.label, "differences": pairs}, indent=2, ensure_ascii=False))
    elif found:
        rows = [(key, *map(_short, pair)) for key, pair in found.items()]
        print(_table([("", a.label, b.label), *rows]))
    else:
        print(f"{a.label} and {b.label} are the same")
    return 0


def _facts(run: Run, used_by: list[str]) -> dict[str, Any]:
    """A run in the list, as JSON holds it: seconds and bytes."""
    recipe, metrics = run.recipe, run.manifest.get("metrics", {})
    keys = ("scale", "stage", "parent", "encoder", "llm", "mixture", "tiles")
    return {
        "run": run.label,
        "recipe": recipe["name"],
        "seed": run.seed,
        **{key: recipe.get(key) for key in keys},
        "metrics": metrics,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.finished)),
        "seconds": run.seconds,
        "size": run.size,
        "used_by": used_by,
    }


_COLUMNS = ("run", "stage", "step", "images", *_SHOWN, "seconds", "size", "used_by")


def _cell(row: dict[str, Any], key: str) -> str:
    value = row.get(key, row["metrics"].get(key))
    if key == "seconds":
        return _time(value)
    if key == "size":
        return _size(value)
    if key == "used_by":
        return ", ".join(value) or "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)


def _short(value: Any) -> str:
    """A value in a column beside another; of a hash, its beginning."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else re.sub(r"^([0-9a-f]{12})[0-9a-f]{52}$", r"\1...", str(value))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size else "removed"


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one as it comes."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (
        [*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]] for row in rows
    )
    return "\n".join("  ".join(row).rstrip() for row in padded)
