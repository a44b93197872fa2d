"""The resolved configuration: what `config/` says, merged, typed and checked in one place.

`load_config` merges config/config.yaml, the scale's file and the user's overrides. A mistake is one
`GranvitError` that names file, key and value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import yaml

from granvit.config.reading import check, read_yaml
from granvit.config.schema import Config, ScaleName
from granvit.errors import GranvitError

CONFIG_FILE = "config/config.yaml"
ENCODERS_FILE = "config/encoders.yaml"
LLMS_FILE = "config/llms.yaml"
SCALES = get_args(ScaleName)


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
