"""The list of benchmarks: which questions of which TSV file each one asks, and how it is asked and scored."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from granvit.errors import GranvitError
from granvit.evaluation.prompts import FORMS
from granvit.evaluation.tsv_files import Question, file_md5, read_images, read_rows

__all__ = [
    "Benchmark",
    "Question",
    "file_md5",
    "find_benchmark",
    "load_benchmarks",
    "read_images",
    "read_questions",
    "read_rows",
    "select",
    "slug",
]

_COLUMNS = (
    "benchmark",
    "tsv",
    "split_prefix",
    "categories",
    "rule",
    "prompt",
    "capability",
    "max_new_tokens",
    "md5",
)


@dataclass(frozen=True)
class Benchmark:
    """One line of config/benchmarks.tsv: a view of a TSV file, and how it is asked and scored.

    ``split_prefix``: only rows whose `split` starts so; ``categories``: only rows of these; ``md5``: first
    eight digits of the official file's.
    """

    name: str
    tsv: str
    split_prefix: str
    categories: tuple[str, ...]
    rule: str
    prompt: str
    capability: str
    max_new_tokens: int
    md5: str

    @property
    def slug(self) -> str:
        """The benchmark's name in file names."""
        return slug(self.name)


def slug(name: str) -> str:
    """A benchmark's name without characters that a shell would mind: ``RefCOCO+`` -> ``RefCOCOplus``."""
    return name.replace("+", "plus")


def load_benchmarks(path: str | Path = "config/benchmarks.tsv") -> list[Benchmark]:
    """All benchmarks in the file's order. Raises GranvitError for a wrong column, prompt form or number."""
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise GranvitError(f"{path}: columns are {reader.fieldnames}; expected {list(_COLUMNS)}")
        return [_benchmark(path, row) for row in reader]


def _benchmark(path: str | Path, row: dict[str, str]) -> Benchmark:
    name = row["benchmark"]
    if row["prompt"] not in FORMS:
        raise GranvitError(f"{path}: {name}: prompt is '{row['prompt']}'; expected one of {sorted(FORMS)}")
    if not row["max_new_tokens"].isdigit():
        raise GranvitError(
            f"{path}: {name}: max_new_tokens is '{row['max_new_tokens']}'; expected a whole number"
        )
    categories = tuple(filter(None, row["categories"].split(",")))
    return Benchmark(
        name, row["tsv"], row["split_prefix"], categories, row["rule"], row["prompt"], row["capability"],
        int(row["max_new_tokens"]), row["md5"],
    )  # fmt: skip


def find_benchmark(benchmarks: Sequence[Benchmark], name: str) -> Benchmark:
    """The benchmark of that name or slug."""
    for benchmark in benchmarks:
        if name in (benchmark.name, benchmark.slug):
            return benchmark
    known = ", ".join(benchmark.name for benchmark in benchmarks)
    raise GranvitError(f"config/benchmarks.tsv: there is no benchmark '{name}'; it has {known}")


def read_questions(benchmark: Benchmark, data_dir: str | Path) -> list[Question]:
    """The benchmark's questions in file order; a file is read once for the views and models that follow each
    other.

    Raises GranvitError where the file, a column or a picture is missing, or no row belongs to the benchmark.
    """
    path = Path(data_dir) / benchmark.tsv
    stat = path.stat() if path.is_file() else None
    questions = select(benchmark, _rows(path, stat and (stat.st_size, stat.st_mtime_ns)))
    if not questions:
        raise GranvitError(
            f"{path}: no question for {benchmark.name} (split '{benchmark.split_prefix}', categories "
            f"{list(benchmark.categories)}); config/benchmarks.tsv and the file's split and category disagree"
        )
    return questions


@lru_cache(maxsize=1)  # the largest file's rows fill memory once, not twenty times
def _rows(path: Path, stamp: tuple[int, int] | None) -> list[Question]:
    return read_rows(path)


def select(benchmark: Benchmark, questions: Sequence[Question]) -> list[Question]:
    """Those of a TSV's questions that belong to the benchmark (its splits, its categories)."""
    return [question for question in questions if _belongs(question, benchmark)]


def _belongs(question: Question, benchmark: Benchmark) -> bool:
    if not question.cells.get("split", "").startswith(benchmark.split_prefix):
        return False
    category = question.cells.get("category", "").replace(" ", "_")
    return not benchmark.categories or category in benchmark.categories
