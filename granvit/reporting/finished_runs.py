"""The training runs that a folder of results holds: what each was, what came out, and what used it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from granvit.config.reading import nearest
from granvit.errors import GranvitError
from granvit.files import read_json

# What a stage teaches (granvit.training.stages); a run also knows what the run that it starts from knew.
CAPTION, DESCRIBE, LOCATE, ASK = "caption", "describe", "locate", "ask"
TAUGHT = {
    "projector": {CAPTION},
    "stage1": {CAPTION, DESCRIBE},
    "stage2": {CAPTION, LOCATE},
    "sft": {CAPTION, DESCRIBE, LOCATE, ASK},
    "continued": {CAPTION, ASK},
}
LACKING = {
    CAPTION: "write captions of images",
    DESCRIBE: "describe boxes",
    LOCATE: "find what a text describes",
    ASK: "answer questions",
}
_SEED = re.compile(r"seed\d+")


@dataclass(frozen=True)
class Run:
    """A finished run: its ``folder``, ``results/{scale}/{stage}/{recipe}/seed{N}``, and its manifest.json."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        return self.manifest["recipe"]

    @property
    def seed(self) -> int:
        return self.manifest["seed"]

    @property
    def label(self) -> str:
        """How commands call it: ``mini/sft-granvit/seed0``."""
        return f"{self.recipe['scale']}/{self.recipe['name']}/seed{self.seed}"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def scale_folder(self) -> Path:
        """``results/{scale}``, however the run's folder was named."""
        return Path(os.path.abspath(self.folder / ".." / ".." / ".."))

    @property
    def results(self) -> Path:
        """The folder that holds all scales."""
        return self.scale_folder.parent

    @cached_property
    def finished(self) -> float:
        """When, in seconds of the system's clock."""
        return (self.folder / "manifest.json").stat().st_mtime

    @property
    def size(self) -> int:
        """Bytes of the model's files; 0 where it has been removed."""
        return sum(path.stat().st_size for path in self.model.rglob("*") if path.is_file())

    @property
    def seconds(self) -> float | None:
        """How long training took; None where nothing says so."""
        file = self.folder / "timing.json"
        return read_json(file).get("seconds") if file.is_file() else None

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Score files of its answers, by benchmark."""
        place = self.scale_folder / "scores" / self.recipe["name"] / f"seed{self.seed}"
        found = [read_json(path) for path in sorted(place.glob("*.json"))]
        return {score["benchmark"]: score for score in found if "benchmark" in score}


def read_run(folder: str | Path) -> Run:
    """The run of a folder. Raises GranvitError where it holds none that has finished."""
    folder = Path(folder)
    manifest = read_json(folder / "manifest.json")
    if not {"recipe", "seed"} <= manifest.keys() or not {"name", "scale", "stage"} <= set(manifest["recipe"]):
        raise GranvitError(f"{folder}/manifest.json: not the manifest of a training run")
    return Run(folder, manifest)


def finished_runs(results: str | Path) -> list[Run]:
    """All finished runs below ``results``, the oldest first. Raises GranvitError for a manifest that cannot
    be read."""
    found = [
        read_run(file.parent)
        for stage in TAUGHT
        for file in Path(results).glob(f"*/{stage}/*/seed*/manifest.json")
    ]
    return sorted(found, key=lambda run: (run.finished, run.label))


def find_run(results: str | Path, name: str) -> Run:
    """The run that a name means: a recipe, with its scale before it or its seed behind it where several are
    there (``mini/sft-granvit/seed0``), or a run's folder.

    Raises GranvitError where there is none, or more than one.
    """
    if (Path(name) / "manifest.json").is_file():
        return read_run(name)
    runs = finished_runs(results)
    if not runs:
        raise _nothing(results)
    wanted = name.strip("/").split("/")
    found = [run for run in runs if _is_called(run, wanted)]
    if not found:
        names = list(dict.fromkeys(run.recipe["name"] for run in runs))
        recipe = next((part for part in wanted if part in names), None)
        known = [run.label for run in runs if run.recipe["name"] == recipe] or names
        raise GranvitError(
            f"run '{name}': {results} holds no finished run of that name; it has "
            f"{', '.join(known)}{nearest(name, known)}"
        )
    if len(found) > 1:
        raise GranvitError(f"run '{name}': it may be {' or '.join(run.label for run in found)}; give one")
    return found[0]


def _is_called(run: Run, wanted: Sequence[str]) -> bool:
    seeds = [part for part in wanted if _SEED.fullmatch(part)]
    rest = [part for part in wanted if not _SEED.fullmatch(part)]
    return (
        0 < len(rest) <= 2
        and rest[-1] == run.recipe["name"]
        and rest[:-1] in ([], [run.recipe["scale"]])
        and seeds in ([], [f"seed{run.seed}"])
    )


def newest_able(results: str | Path, ability: str | None) -> Run:
    """The run that finished last of those that were taught ``ability`` (None: any run) and still have their
    model. Raises GranvitError where there is none."""
    runs = [run for run in finished_runs(results) if run.model.is_dir()]
    able = [run for run in runs if ability is None or ability in taught(run, runs)]
    if able:
        return able[-1]
    if not runs:
        raise _nothing(results)
    raise GranvitError(
        f"{results}: none of its {len(runs)} finished runs was taught to {LACKING[ability]}; train one "
        f"({_stages(ability)}), or give --model FOLDER"
    )


def require_able(run: Run, runs: Sequence[Run], ability: str) -> None:
    """Raise GranvitError where a run was not taught this."""
    if ability not in taught(run, runs):
        raise GranvitError(
            f"{run.label}: a {run.recipe['stage']} model was not taught to {LACKING[ability]}; take a model "
            f"of {_stages(ability)} (`granvit runs` lists them)"
        )


def taught(run: Run, runs: Sequence[Run]) -> set[str]:
    """What a run can be asked for: what its stage teaches, and what its parents' stages did."""
    learned: set[str] = set()
    for one in lineage(run, runs):
        learned |= TAUGHT.get(one.recipe["stage"], set()) - _left_out(one.recipe)
        if str(one.recipe.get("mixture", "")).startswith("both-"):  # both region tasks, whatever the stage
            learned |= {DESCRIBE, LOCATE}
    return learned


def _left_out(recipe: Mapping[str, Any]) -> set[str]:
    """What a control's stage 1 does not teach (docs/controls.md)."""
    if recipe.get("contrastive"):
        return {CAPTION, DESCRIBE}
    return {DESCRIBE} if str(recipe.get("mixture", "")).startswith("captions-") else set()


def lineage(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The run and those that it started from, as far as they are there; the first one first."""
    found = [run]
    while parent := next((other for other in runs if _started_from(found[0], other, "parent")), None):
        found.insert(0, parent)
    return found


def used_by(run: Run, runs: Sequence[Run]) -> list[str]:
    """The runs that start from this one or take its encoder, and its predictions and scores."""
    found = [
        other.label
        for other in runs
        if _started_from(other, run, "parent") or _started_from(other, run, "encoder_from")
    ]
    of_run = Path(run.recipe["name"]) / f"seed{run.seed}"
    if any((run.scale_folder / "predictions" / of_run).glob("*.jsonl")):
        found.append("predictions")
    return found + ([f"{len(run.scores)} scores"] if run.scores else [])


def _started_from(run: Run, other: Run, key: str) -> bool:
    same = run.seed == other.seed and run.scale_folder == other.scale_folder
    return same and run.recipe.get(key) == other.recipe["name"]


def flattened(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings as one level: ``distillation.weight``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    return flat


def differences(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """What two runs' recipes, inputs and results say otherwise, by its key; a key that one lacks is None
    there."""
    sides = []
    for run in (a, b):
        facts = {key: run.manifest.get(key, {}) for key in ("inputs", "versions", "parameters", "metrics")}
        more = {"seed": run.seed, "seconds": run.seconds}
        scores = {name: score.get("score") for name, score in run.scores.items()}
        sides.append(flattened(run.recipe) | more | flattened(facts) | flattened({"scores": scores}))
    keys = dict.fromkeys([*sides[0], *sides[1]])
    pairs = {key: (sides[0].get(key), sides[1].get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _stages(ability: str) -> str:
    return " or ".join(stage for stage, learned in TAUGHT.items() if ability in learned)


def _nothing(results: str | Path) -> GranvitError:
    return GranvitError(
        f"{results}: no finished run there; train one (`make table1`), name another folder in --results, or "
        "give --model FOLDER"
    )
