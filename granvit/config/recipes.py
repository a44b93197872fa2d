"""Training runs: what a line of config/recipes.yaml may say, and everything that the run depends on.

`resolve_recipe` lays a line over its stage's settings and checks what it starts from. A mistake is one
`GranvitError` that names file, recipe, key and value.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from granvit.config import steps
from granvit.config.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Share, Strict, change_of
from granvit.config.loading import CONFIG_FILE, ENCODERS_FILE, LLMS_FILE, merge
from granvit.config.reading import check, nearest, read_yaml
from granvit.config.schema import (
    Config,
    Contrastive,
    Distillation,
    Parts,
    Rates,
    ScaleName,
    Stage,
    StageSettings,
    Turns,
)
from granvit.errors import GranvitError

RECIPES_FILE = "config/recipes.yaml"
# Where a stage may start from; None is the published encoder and LLM.
PARENT_STAGES = {
    "projector": (None,),
    "stage1": ("projector", "stage2"),
    "stage2": ("projector", "stage1"),
    "sft": ("projector", "stage1", "stage2", "continued"),
    "continued": ("projector", "stage1", "stage2"),
}
TALKING_STAGES = ("projector", "sft", "continued")  # whose mixtures may hold conversations


class NotAtScale(GranvitError):
    """A run of an encoder or LLM that other scales have, and this one does not."""


class RecipeEntry(change_of(StageSettings, leave_out=("eval_images", "save_every"))):
    """One line of config/recipes.yaml: where a run starts, and what it does differently from its stage."""

    stage: Stage
    parent: str | None = None
    encoder_from: str | None = None
    encoder: str | None = None
    llm: str | None = None
    tiling: bool | None = None


class Recipe(Strict):
    """Everything that one training run depends on besides its seed and its input files."""

    name: str
    stage: Stage
    scale: ScaleName
    parent: str | None
    encoder_from: str | None
    encoder: str
    llm: str
    tiles: NonNegativeInt
    mixture: str
    trains: Parts
    learning_rate: Rates
    batch_size: PositiveInt
    epochs: Positive
    # Left out where it says what every run did before there was a choice: their hashes stay.
    turns: Annotated[Turns, Field(exclude_if=lambda turns: turns == "separate")] = "separate"
    warmup_ratio: Share
    weight_decay: NonNegative
    max_grad_norm: Positive
    precision: Literal["fp32", "bf16"]
    distillation: Distillation | None
    contrastive: Annotated[Contrastive | None, Field(exclude_if=lambda value: value is None)] = None
    tokens_of: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    eval_every: NonNegativeInt
    eval_images: NonNegativeInt
    save_every: PositiveInt
    step_version: PositiveInt
    parent_hash: str | None
    encoder_from_hash: str | None

    @property
    def hash(self) -> str:
        """sha256 of the resolved content. Names are left out: what a run is called does not change what it
        does.
        """
        content = self.model_dump(exclude={"name", "parent", "encoder_from"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def recipe_names(root: str | Path = ".") -> list[str]:
    """Every run of config/recipes.yaml, in the file's order."""
    return list(_entries(Path(root)))


def resolve_recipe(config: Config, name: str, root: str | Path = ".") -> Recipe:
    """Everything that the run `name` depends on: its stage's settings, its own changes, and its ancestors'
    hashes.

    Raises GranvitError for an unknown recipe, parent, encoder or LLM, a circular parent, and a parent of a
    wrong stage.
    """
    return _resolve(config, name, _entries(Path(root)), _all_models(Path(root)))


def resolve_all(config: Config, root: str | Path = ".") -> dict[str, Recipe]:
    """All recipes by name, but for those of models that only other scales have. Raises GranvitError where two
    names mean the same run."""
    recipes: dict[str, Recipe] = {}
    by_hash: dict[str, str] = {}
    entries, models = _entries(Path(root)), _all_models(Path(root))
    for name in entries:
        try:
            recipe = recipes[name] = _resolve(config, name, entries, models)
        except NotAtScale:
            continue
        twin = by_hash.setdefault(recipe.hash, name)
        if twin != name:
            raise GranvitError(
                f"{RECIPES_FILE}: '{name}' and '{twin}' are the same run at scale {config.scale}; "
                f"keep one of them and use its name in config/tables.yaml"
            )
    return recipes


@cache
def _entries(root: Path) -> dict[str, RecipeEntry]:
    return check(dict[str, RecipeEntry], read_yaml(root / RECIPES_FILE), RECIPES_FILE)


def _all_models(root: Path) -> set[str]:
    """The encoders and LLMs of all lists, those of other scales too."""
    lists = [models for file in (ENCODERS_FILE, LLMS_FILE) for models in read_yaml(root / file).values()]
    return {name for models in lists for name in models or ()}


def _resolve(
    config: Config,
    name: str,
    entries: dict[str, RecipeEntry],
    models: set[str],
    below: tuple[str, ...] = (),
) -> Recipe:
    if name in below:
        circle = " -> ".join((*below[below.index(name) :], name))
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: parent: the recipes form a circle ({circle}); change one parent"
        )
    entry = entries.get(name)
    if entry is None:
        where = f"{RECIPES_FILE}: {below[-1]}: parent" if below else "recipe"
        raise GranvitError(f"{where}: '{name}' is not a recipe of {RECIPES_FILE}{nearest(name, entries)}")
    parent, donor = (
        _resolve(config, other, entries, models, (*below, name)) if other else None
        for other in (entry.parent, entry.encoder_from)
    )
    _check_parent(name, entry, parent)
    change = entry.model_dump(exclude_unset=True, include=set(StageSettings.model_fields))
    settings = getattr(config.stages, entry.stage).model_dump()
    if "distillation" in change and settings["distillation"] is None:
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: distillation: stage '{entry.stage}' has none in {CONFIG_FILE}; "
            "it belongs to stage1"
        )
    settings = merge(settings, change)
    if settings["turns"] == "chained" and entry.stage not in TALKING_STAGES:
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: turns: chained, but stage '{entry.stage}' learns regions, whose "
            f"questions see nothing of each other; only {', '.join(TALKING_STAGES)} learn conversations. "
            f"Say `separate`, here or in {CONFIG_FILE}"
        )
    _check_controls(name, entry.stage, settings)
    if settings["distillation"] and settings["distillation"]["weight"] == 0:
        settings["distillation"] = None  # a weight of nothing needs no teacher, and is the same run
    rates, trains = settings["learning_rate"], settings["trains"]
    settings["learning_rate"] = {part: rates[part] if trains[part] else 0.0 for part in trains}
    encoder = entry.encoder or (parent.encoder if parent else "")
    llm = entry.llm or (parent.llm if parent else "")
    _check_here(config, name, {encoder, llm} & models)
    _check_known(name, "encoder", encoder, config.encoders, ENCODERS_FILE)
    _check_known(name, "llm", llm, config.llms, LLMS_FILE)
    tiling = entry.tiling if parent is None else parent.tiles > 0
    if tiling and settings["contrastive"]:
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: contrastive: the projector of a tiled model reads four cells at once; "
            "start from a run without tiling"
        )
    return Recipe(
        **settings,
        **config.training.model_dump(),
        name=name,
        stage=entry.stage,
        scale=config.scale,
        parent=entry.parent,
        encoder_from=entry.encoder_from,
        encoder=encoder,
        llm=llm,
        tiles=config.max_tiles if tiling else 0,
        step_version=steps.version(entry.stage),
        parent_hash=parent.hash if parent else None,
        encoder_from_hash=donor.hash if donor else None,
    )


def _check_parent(name: str, entry: RecipeEntry, parent: Recipe | None) -> None:
    allowed = PARENT_STAGES[entry.stage]
    if (parent.stage if parent else None) not in allowed:
        found = f"'{entry.parent}', a {parent.stage} run" if parent else "none"
        wanted = " or ".join(f"a {stage} run" if stage else "no parent" for stage in allowed)
        raise GranvitError(f"{RECIPES_FILE}: {name}: parent: {found}; {entry.stage} starts from {wanted}")
    if entry.encoder_from and entry.stage != "projector":
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: encoder_from: only a projector run may take another run's encoder"
        )
    for key in ("encoder", "llm", "tiling"):
        if parent and getattr(entry, key) is not None:
            raise GranvitError(
                f"{RECIPES_FILE}: {name}: {key}: inherited from '{entry.parent}'; remove this key"
            )


def _check_controls(name: str, stage: str, settings: dict[str, Any]) -> None:
    """Raise GranvitError where a control's key stands with a stage or a setting that cannot obey it."""
    for key in ("contrastive", "tokens_of"):
        if settings[key] is not None and stage != "stage1":
            raise GranvitError(
                f"{RECIPES_FILE}: {name}: {key}: only stage1 knows it, this is a {stage} run; remove this key"
            )
    if settings["contrastive"] and settings["trains"]["llm"]:
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: contrastive: no loss reaches the language model, but trains.llm is "
            "true; set it to false, or remove contrastive"
        )
    if settings["contrastive"] and not settings["trains"]["encoder"]:
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: contrastive: regions supervise the encoder, but trains.encoder is "
            "false; set it to true, or remove contrastive"
        )


def _check_here(config: Config, recipe: str, models: set[str]) -> None:
    """Raises NotAtScale where ``models``, which some scale has, are none of this one's."""
    absent = sorted(models - config.encoders.keys() - config.llms.keys())
    if absent:
        raise NotAtScale(
            f"{RECIPES_FILE}: {recipe}: no {absent[0]} at the scale {config.scale}, as `{config.models}` "
            f"of {ENCODERS_FILE} or {LLMS_FILE} lacks it; add it there, or take a scale that has it"
        )


def _check_known(recipe: str, key: str, value: str, known: dict[str, Any], file: str) -> None:
    if not value:
        raise GranvitError(
            f"{RECIPES_FILE}: {recipe}: {key}: missing; name one of {file}: {', '.join(known)}"
        )
    if value not in known:
        raise GranvitError(
            f"{RECIPES_FILE}: {recipe}: {key}: '{value}' is not in {file}{nearest(value, known)}; "
            f"known: {', '.join(known)}"
        )
