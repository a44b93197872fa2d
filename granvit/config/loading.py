"""The resolved configuration: what `config/` says, merged, typed and checked in one place.

`load_config` merges config/config.yaml, the scale's file and the user's overrides; `resolve_recipe` turns one
line of config/recipes.yaml into everything that run depends on. Both raise one `GranvitError` that names
file, key and value.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from granvit.config import steps
from granvit.config.reading import check, nearest, read_yaml
from granvit.config.schema import Config, EncoderSpec, LLMSpec, Recipe, RecipeEntry
from granvit.errors import GranvitError

__all__ = [
    "Config",
    "EncoderSpec",
    "LLMSpec",
    "Recipe",
    "load_config",
    "recipe_names",
    "resolve_all",
    "resolve_recipe",
]

CONFIG_FILE = "config/config.yaml"
RECIPES_FILE = "config/recipes.yaml"
ENCODERS_FILE = "config/encoders.yaml"
LLMS_FILE = "config/llms.yaml"
SCALES = ("smoke", "mini", "paper")
# Where a stage may start from; None is the published encoder and LLM.
PARENT_STAGES = {
    "projector": (None,),
    "stage1": ("projector",),
    "stage2": ("projector", "stage1"),
    "sft": ("projector", "stage1", "stage2", "continued"),
    "continued": ("projector", "stage1", "stage2"),
}


def load_config(scale: str, overrides: dict | None = None, root: str | Path = ".") -> Config:
    """The configuration of `scale`: defaults, then config/scales/{scale}.yaml, then `overrides` (nested like
    the files).

    Raises GranvitError for an unknown scale or key and for a value of the wrong type.
    """
    root = Path(root)
    if scale not in SCALES:
        raise GranvitError(f"{CONFIG_FILE}: scale: '{scale}' is not a scale; use one of {', '.join(SCALES)}")
    scale_file = f"config/scales/{scale}.yaml"
    overrides = {key: value for key, value in (overrides or {}).items() if key != "scale"}
    layers = [(CONFIG_FILE, read_yaml(root / CONFIG_FILE)), (scale_file, read_yaml(root / scale_file))]
    layers.append(("command line", overrides))
    merged: dict = {}
    for _, layer in layers:
        merged = merge(merged, layer)
    choice = merged.get("models")
    for key, file in (("encoders", ENCODERS_FILE), ("llms", LLMS_FILE)):
        lists = read_yaml(root / file)
        layers.append((file, {key: lists.get(choice)}))
        merged.setdefault(key, lists.get(choice, {}))

    def place(path: list[str]) -> str:
        return next((file for file, layer in reversed(layers) if _holds(layer, path)), CONFIG_FILE)

    return check(Config, merged, place)


def _holds(layer: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(layer, dict) or part not in layer:
            return False
        layer = layer[part]
    return True


def recipe_names(root: str | Path = ".") -> list[str]:
    """Every run of config/recipes.yaml, in the file's order."""
    return list(_entries(Path(root)))


def resolve_recipe(config: Config, name: str, root: str | Path = ".") -> Recipe:
    """Everything that the run `name` depends on: its stage's settings, its own changes, and its ancestors'
    hashes.

    Raises GranvitError for an unknown recipe, parent, encoder or LLM, a circular parent, and a parent of a
    wrong stage.
    """
    return _resolve(config, name, _entries(Path(root)), ())


def resolve_all(config: Config, root: str | Path = ".") -> dict[str, Recipe]:
    """All recipes by name. Raises GranvitError where two names mean the same run."""
    recipes: dict[str, Recipe] = {}
    by_hash: dict[str, str] = {}
    for name in recipe_names(root):
        recipe = recipes[name] = resolve_recipe(config, name, root)
        twin = by_hash.setdefault(recipe.hash, name)
        if twin != name:
            raise GranvitError(
                f"{RECIPES_FILE}: '{name}' and '{twin}' are the same run at scale {config.scale}; "
                f"keep one of them and use its name in config/tables.yaml"
            )
    return recipes


def merge(base: dict, change: dict) -> dict:
    """`base` with `change` laid over it, key by key; lists and plain values are replaced."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_words(override: Any) -> Any:
    """What `snakemake --config` was given, its words read as YAML reads them: Snakemake does so with single
    values, but hands those inside `data={...}` over as text.
    """
    if isinstance(override, dict):
        return {key: read_words(value) for key, value in override.items()}
    if isinstance(override, list):
        return [read_words(value) for value in override]
    if not isinstance(override, str):
        return override
    try:
        value = yaml.safe_load(override)
    except yaml.YAMLError:
        return override
    return value if value is None or isinstance(value, (bool, int, float)) else override


@cache
def _entries(root: Path) -> dict[str, RecipeEntry]:
    return check(dict[str, RecipeEntry], read_yaml(root / RECIPES_FILE), RECIPES_FILE)


def _resolve(config: Config, name: str, entries: dict[str, RecipeEntry], below: tuple[str, ...]) -> Recipe:
    if name in below:
        circle = " -> ".join((*below[below.index(name) :], name))
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: parent: the recipes form a circle ({circle}); change one parent"
        )
    entry = entries.get(name)
    if entry is None:
        where = f"{RECIPES_FILE}: {below[-1]}: parent" if below else "recipe"
        raise GranvitError(f"{where}: '{name}' is not a recipe of {RECIPES_FILE}{nearest(name, entries)}")
    parent = _resolve(config, entry.parent, entries, (*below, name)) if entry.parent else None
    donor = _resolve(config, entry.encoder_from, entries, (*below, name)) if entry.encoder_from else None
    _check_parent(name, entry, parent)
    change = entry.model_dump(
        exclude_unset=True, exclude={"parent", "encoder_from", "encoder", "llm", "tiling", "stage"}
    )
    settings = getattr(config.stages, entry.stage).model_dump()
    if "distillation" in change and settings["distillation"] is None:
        raise GranvitError(
            f"{RECIPES_FILE}: {name}: distillation: stage '{entry.stage}' has none in {CONFIG_FILE}; "
            "it belongs to stage1"
        )
    settings = merge(settings, change)
    if settings["distillation"] and settings["distillation"]["weight"] == 0:
        settings["distillation"] = None  # a weight of nothing needs no teacher, and is the same run
    rates, trains = settings["learning_rate"], settings["trains"]
    settings["learning_rate"] = {part: rates[part] if trains[part] else 0.0 for part in trains}
    encoder = entry.encoder or (parent.encoder if parent else "")
    llm = entry.llm or (parent.llm if parent else "")
    _check_known(name, "encoder", encoder, config.encoders, ENCODERS_FILE)
    _check_known(name, "llm", llm, config.llms, LLMS_FILE)
    tiling = entry.tiling if parent is None else parent.tiles > 0
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
