"""The pages of means: which numbers each is made of, with their galleries and score files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from granvit.reporting.scores import AVERAGE, printed_rows
from granvit.reporting.site.galleries import Galleries
from granvit.reporting.site.places import Answered, cell_page, mean_page, score_file, seeds_page
from granvit.reporting.site.tables import means_of
from granvit.reporting.site.writing import Site


@dataclass(frozen=True)
class Means:
    """Writes the pages of means over what ``galleries`` has written; ``compared``, ``seeds``: the recipes
    and seeds of the comparison over several seeds."""

    site: Site
    galleries: Galleries
    compared: Sequence[str]
    seeds: Sequence[int]

    def write(self, linked: set[str]) -> None:
        """The means over benchmarks whose page some table links to."""
        for one in sorted({one for one, _ in self.galleries.scores}):
            for mean in means_of(self.galleries.shared).values():
                path = mean_page(one, mean.name)
                if path in linked:
                    note = f"The mean of {len(mean.members)} printed benchmarks, each as the table prints it."
                    title = f"{mean.name.removeprefix('average ')}: {one.label}"
                    group = {"title": "", "parts": [self._part(one, name) for name in mean.members]}
                    self._page(path, title, note, [group], self.galleries.lineage(one.recipe, one.seed))

    def write_seeds(self) -> None:
        """The rows of the comparison over several seeds."""
        shared = self.galleries.shared
        for capability, name in printed_rows(shared):
            members = shared.capabilities[capability] if name == AVERAGE else [name]
            groups, lineage = [], []
            for recipe in self.compared:
                for seed in self.seeds:
                    parts = [self._part(Answered(recipe, seed), member) for member in members]
                    groups.append({"title": f"{recipe}, seed {seed}", "parts": parts})
                    lineage += [row for row in self.galleries.lineage(recipe, seed) if row not in lineage]
            title = f"{capability if name == AVERAGE else name} over {len(self.seeds)} seeds"
            note = "What mean and deviation are made of."
            self._page(seeds_page(capability, name), title, note, groups, lineage)

    def _page(
        self, path: str, title: str, note: str, groups: list[dict[str, Any]], lineage: list[dict[str, Any]]
    ) -> None:
        self.site.page(path, "mean", title, [], note=note, groups=groups, lineage=lineage)

    def _part(self, one: Answered, name: str) -> dict[str, Any]:
        cell = self.galleries.shared.benchmarks[name]
        return {
            "name": name,
            "href": cell_page(one, name),
            "score": self.galleries.scores[one, name].text,
            "divide": cell.divide,
            "doors": [door for door in self.galleries.doors[one, name] if door[0] != "all"],
            "score_file": score_file(one, cell.benchmark),
        }
