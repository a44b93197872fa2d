"""What ran and how long it took, from manifests and timings; and what the report lacks, with the reason."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.files import read_json

# Whose versions stand in the report beside those that the runs' own manifests name
PACKAGES = (
    "torch", "transformers", "accelerate", "deepspeed", "numpy", "pandas", "pillow", "pyarrow", "webdataset",
    "paddleocr", "onnxruntime", "matplotlib", "snakemake", "dvc", "Jinja2",
)  # fmt: skip
_NO_TIME = {"", "-", "NA"}


class Runs:
    """The manifests of training runs, by recipe and seed. Raises GranvitError for one that is missing or
    broken."""

    def __init__(self, manifests: Iterable[str | Path]) -> None:
        self.files: dict[tuple[str, int], Path] = {}
        self.manifests: dict[tuple[str, int], dict[str, Any]] = {}
        for path in map(Path, manifests):
            content = read_json(path)
            key = content["recipe"]["name"], content["seed"]
            self.files[key], self.manifests[key] = path, content

    def lineage(self, recipe: str, seed: int) -> list[dict[str, Any]]:
        """A run's manifest, and those of all that it started from, the nearest first. Raises GranvitError
        where one was not given."""
        found: dict[str, dict[str, Any]] = {}
        queue = [recipe]
        while queue:
            name = queue.pop(0)
            if (name, seed) not in self.manifests:
                raise GranvitError(
                    f"report: there is no manifest of {name}, seed {seed}; it belongs to a number that the "
                    "report shows"
                )
            found[name] = self.manifests[name, seed]
            others = (found[name]["recipe"].get(role) for role in ("parent", "encoder_from"))
            queue += [other for other in others if other and other not in found]
        return list(found.values())

    def timing(self, recipe: str, seed: int) -> dict[str, Any]:
        """Seconds and images per second, where the run has said them."""
        path = self.files[recipe, seed].with_name("timing.json")
        return read_json(path) if path.is_file() else {}


def versions() -> dict[str, str]:
    """Package -> version in this environment; those that it lacks are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Timing:
    """All jobs of one rule: ``seconds`` and ``cpu`` (s) of all of them, the ``longest`` (s), ``memory`` at
    its highest (MB)."""

    phase: str
    rule: str
    jobs: int
    seconds: float
    longest: float
    cpu: float
    memory: float


def timings(folder: Path, phases: Mapping[str, str]) -> list[Timing]:
    """What Snakemake measured (`benchmark:`) under ``{folder}/{rule}/``, in the order of ``phases``: rule ->
    phase. Rules that it does not know come last."""
    order = list(phases)
    rules = sorted((path for path in folder.glob("*") if path.is_dir()), key=lambda path: path.name)
    rules.sort(key=lambda path: order.index(path.name) if path.name in phases else len(order))
    found = []
    for path in rules:
        jobs = [row for file in sorted(path.rglob("*.tsv")) for row in _measured(file)]
        if jobs:
            seconds = [_number(row, "s") for row in jobs]
            cpu, memory = (
                sum(_number(row, "cpu_time") for row in jobs),
                max(_number(r, "max_rss") for r in jobs),
            )
            phase = phases.get(path.name, "other")
            found.append(Timing(phase, path.name, len(jobs), sum(seconds), max(seconds), cpu, memory))
    return found


def _measured(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _number(row: Mapping[str, str], column: str) -> float:
    text = row.get(column) or ""
    return 0.0 if text in _NO_TIME else float(text)


def clock(seconds: float) -> str:
    """``3723.4 -> "1:02:03"``; under ten seconds with a decimal."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def require(path: Path) -> Path:
    """A file that the report shows. Raises GranvitError where it is missing."""
    if not path.is_file():
        raise GranvitError(f"{path}: no such file, and the report shows it; make it with `snakemake {path}`")
    return path


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV. Raises GranvitError where it is missing."""
    with open(require(path), encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def missing_tables(
    needed: Mapping[str, Sequence[str]], shown: Sequence[str], results: Path, seed: int
) -> list[dict[str, Any]]:
    """The tables that the report does not show: ``name``, ``reason``, and for each run behind it that has no
    scores, ``runs``: its name and the last error in a log of it.

    ``needed``: table -> recipes behind it.
    """
    found = []
    for name, recipes in needed.items():
        if name in shown:
            continue
        runs = [
            {"name": recipe, "error": last_error(results / "logs", f"{recipe}-seed{seed}")}
            for recipe in recipes
            if not (results / "scores" / recipe / f"seed{seed}").is_dir()
        ]
        reason = (
            f"report.tables leaves it out; {len(runs)} of the {len(recipes)} runs behind it have no scores"
        )
        if not runs:
            reason = "report.tables leaves it out; all that it needs has been made"
        found.append({"name": name, "reason": reason, "runs": runs})
    return found


def missing_figures(known: Iterable[str], drawn: Sequence[str], shown: Sequence[str]) -> list[dict[str, Any]]:
    """The figures that the report does not show: ``name`` and ``reason``."""
    return [
        {
            "name": name,
            "reason": "report.figures leaves it out" if name in drawn else "no rule draws it",
            "runs": [],
        }
        for name in known
        if name not in shown
    ]


def last_error(logs: Path, job: str) -> str:
    """The last line `error: ...` in a log of a job of that name, of whatever rule; nothing where none is."""
    for path in sorted(logs.glob(f"*/{job}.log")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1]
    return ""
