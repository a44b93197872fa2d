"""Where each page and file of the report is, below its folder: every link is made of these."""

from __future__ import annotations

from dataclasses import dataclass

from granvit.evaluation.benchmarks import slug


@dataclass(frozen=True, order=True)
class Answered:
    """One run's answers to the benchmarks; ``chance``: those on shuffled images."""

    recipe: str
    seed: int
    chance: bool = False

    @property
    def label(self) -> str:
        return f"{self.recipe}, shuffled images" if self.chance else self.recipe

    @property
    def results(self) -> str:
        """Its folder's end, below scores/, verdicts/ and the like, and what stands before these."""
        return f"{self.recipe}/seed{self.seed}"

    @property
    def folder(self) -> str:
        return f"{'chance' if self.chance else 'runs'}/{self.results}"


def run_page(recipe: str, seed: int) -> str:
    """What a run is: its recipe and all that it started from."""
    return f"runs/{recipe}/seed{seed}/index.html"


def cell_page(answered: Answered, name: str) -> str:
    """One number: a run's score of a printed benchmark."""
    return f"{answered.folder}/{file_name(name)}.html"


def gallery_page(answered: Answered, name: str, kind: str, number: int = 1) -> str:
    """Some of a cell's questions with their answers."""
    return f"{answered.folder}/{file_name(name)}-{kind}-{number}.html"


def score_file(answered: Answered, benchmark: str) -> str:
    """The score file of a whole benchmark."""
    return f"{answered.folder}/{slug(benchmark)}.json"


def verdict_file(answered: Answered, benchmark: str) -> str:
    """The verdicts of a benchmark's questions that the galleries hold."""
    return f"{answered.folder}/{slug(benchmark)}.verdicts.jsonl"


def mean_page(answered: Answered, name: str) -> str:
    """A mean of several printed benchmarks."""
    return f"{answered.folder}/mean-{file_name(name)}.html"


def seeds_page(capability: str, name: str) -> str:
    """A row of the comparison over several seeds."""
    return f"seeds/{file_name(capability)}-{file_name(name)}.html"


def file_name(name: str) -> str:
    """A printed name without what a file name or an address would mind."""
    return slug(name).replace("*", "").replace(" ", "-").replace("/", "-")
