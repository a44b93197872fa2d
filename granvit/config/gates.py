"""What `config/gates.yaml` may say: what the miniature must show before a GranViT model is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from granvit.config.base import NonNegativeInt, Positive, PositiveInt, Share, Strict
from granvit.config.reading import check, read_yaml

FILE = "config/gates.yaml"
Limits = dict[str, Annotated[list[Share], Field(min_length=2, max_length=2)]]


class Ceiling(Strict):
    """``rows`` of config/tables.yaml whose mean is held against the LLM's symbol score ``ceiling``."""

    rows: Annotated[list[str], Field(min_length=1)]
    ceiling: str


class Baseline(Strict):
    recipe: str
    seed: NonNegativeInt
    most: Share
    capabilities: dict[str, Ceiling]


class Pages(Strict):
    recipe: str
    seed: NonNegativeInt
    images: PositiveInt
    most: Positive


class Gates(Strict):
    """``llms``, ``encoders``: measure of a manifest -> at least, at most."""

    llms: Limits
    encoders: Limits
    baseline: Baseline
    pages: Pages


def load_gates(root: str | Path = ".") -> Gates:
    """The content of config/gates.yaml. Raises GranvitError for an unknown key or a wrong value."""
    return check(Gates, read_yaml(Path(root) / FILE), lambda path: FILE)
