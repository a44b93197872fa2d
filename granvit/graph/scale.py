"""What `config/` says at one scale, each file read once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from granvit.config.loading import Config, load_config
from granvit.config.recipes import Recipe, recipe_names, resolve_all, resolve_recipe
from granvit.data.sources.table import SourceSpec, read_sources
from granvit.errors import GranvitError


class Scale:
    """The settings, recipes and sources of one scale (``name``), below what the user overrides.

    Each is read when it is first asked for; all raise GranvitError for a mistake in its file.
    """

    def __init__(self, name: str, overrides: dict[str, Any] | None = None) -> None:
        self.name, self._overrides = name, overrides

    @cached_property
    def config(self) -> Config:
        return load_config(self.name, self._overrides)

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """All resolved recipes of this scale's models, by name."""
        return resolve_all(self.config)

    @cached_property
    def sources(self) -> dict[str, SourceSpec]:
        """The rows of the scale's sources file, by name."""
        return read_sources(self.config.data.sources)

    @property
    def is_rendered(self) -> bool:
        """Whether this scale's benchmarks and models are the miniature's."""
        return self.config.models == "standins"

    def recipe(self, name: str) -> Recipe:
        """One resolved recipe. Raises GranvitError for an unknown name, and where the scale lacks its
        models."""
        if name not in self.recipes:
            if name in recipe_names():
                resolve_recipe(self.config, name)  # which says what is missing
            raise GranvitError(
                f"'{name}' is not a recipe of config/recipes.yaml; add it there or correct the name"
            )
        return self.recipes[name]

    def source(self, name: str) -> SourceSpec:
        """One source. Raises GranvitError for an unknown name."""
        if name not in self.sources:
            file = self.config.data.sources
            raise GranvitError(f"{file}: no source '{name}'; known: {', '.join(self.sources)}")
        return self.sources[name]
