"""The list of benchmarks: which questions of which TSV file each one asks, and how it is asked and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from granvit.config.reading import Count, Filled, Row, read_table
from granvit.errors import GranvitError
from granvit.evaluation.prompts import FORMS
from granvit.evaluation.tsv_files import Question, read_images, read_rows

LIST = "config/benchmarks.tsv"


def _split(cell: object) -> object:
    return tuple(filter(None, cell.split(","))) if isinstance(cell, str) else cell


@dataclass(frozen=True)
class Benchmark(Row):
    """One line of config/benchmarks.tsv: a view of a TSV file, and how it is asked and scored.

    ``split_prefix``: only rows whose `split` starts so; ``categories``: only rows of these; ``md5``: first
    eight digits of the official file's.
    """

    name: Filled
    tsv: Filled
    split_prefix: str
    categories: Annotated[tuple[str, ...], BeforeValidator(_split)]
    rule: Filled
    prompt: Literal[*FORMS]
    capability: Filled
    max_new_tokens: Count
    md5: str

    @property
    def slug(self) -> str:
        """The benchmark's name in file names."""
        return slug(self.name)


def slug(name: str) -> str:
    """A benchmark's name without characters that a shell would mind: ``RefCOCO+`` -> ``RefCOCOplus``."""
    return name.replace("+", "plus")


def load_benchmarks(path: str | Path = LIST) -> list[Benchmark]:
    """All benchmarks in the file's order. Raises GranvitError as `read_table` does."""
    return list(read_table(path, Benchmark, f"restore it with `git checkout {path}`").values())


def find_benchmark(benchmarks: Sequence[Benchmark], name: str, listed: str | None = None) -> Benchmark:
    """The benchmark of that name or slug; ``listed``: the file of ``benchmarks``, for the message. Raises
    GranvitError where there is none."""
    for benchmark in benchmarks:
        if name in (benchmark.name, benchmark.slug):
            return benchmark
    known = ", ".join(benchmark.name for benchmark in benchmarks)
    raise GranvitError(f"{listed or LIST}: there is no benchmark '{name}'; it has {known}")


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


def shown_images(data_dir: str | Path) -> Iterator[tuple[str, str, bytes]]:
    """Every image of every benchmark once: the benchmark's name, the first question that shows the image, its
    bytes. Raises GranvitError where a benchmark's file is missing."""
    for benchmark in load_benchmarks():
        shown: dict[str, str] = {}
        for question in read_questions(benchmark, data_dir):
            for digest in question.images:
                shown.setdefault(digest, question.index)
        for digest, data in read_images(Path(data_dir) / benchmark.tsv, shown):
            yield benchmark.name, shown[digest], data


def select(benchmark: Benchmark, questions: Sequence[Question]) -> list[Question]:
    """Those of a TSV's questions that belong to the benchmark (its splits, its categories)."""
    return [question for question in questions if _belongs(question, benchmark)]


def _belongs(question: Question, benchmark: Benchmark) -> bool:
    if not question.cells.get("split", "").startswith(benchmark.split_prefix):
        return False
    category = question.cells.get("category", "").replace(" ", "_")
    return not benchmark.categories or category in benchmark.categories
