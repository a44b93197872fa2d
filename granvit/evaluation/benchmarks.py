"""The list of benchmarks, and their questions and images as VLMEvalKit's TSV files hold them.

A TSV may hold gigabytes of base64, so it is streamed: `read_rows` gives everything but the pictures,
`read_images` gives each different picture once.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from granvit.errors import GranvitError
from granvit.evaluation.prompts import FORMS

LONGEST_REFERENCE = 64  # an `image` cell this short is not a picture but another row's index
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

csv.field_size_limit(sys.maxsize)


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


@dataclass(frozen=True)
class Question:
    """One row of a TSV: its cells without the pictures, and the digests of the pictures that it shows, in
    order.
    """

    index: str
    cells: dict[str, str]
    images: tuple[str, ...]


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
    """The benchmark's questions in file order.

    Raises GranvitError where the file, a column or a picture is missing.
    """
    questions = select(benchmark, read_rows(Path(data_dir) / benchmark.tsv))
    if not questions:
        raise GranvitError(
            f"{Path(data_dir) / benchmark.tsv}: no question for {benchmark.name} (split "
            f"'{benchmark.split_prefix}', "
            f"categories {list(benchmark.categories)}); config/benchmarks.tsv and the file's split and "
            "category disagree"
        )
    return questions


def select(benchmark: Benchmark, questions: Sequence[Question]) -> list[Question]:
    """Those of a TSV's questions that belong to the benchmark (its splits, its categories)."""
    return [question for question in questions if _belongs(question, benchmark)]


def read_rows(path: Path) -> list[Question]:
    """Every row of a TSV; of the pictures, which may be gigabytes, only their digests are kept."""
    digests: dict[str, tuple[str, ...]] = {}
    rows: list[tuple[dict[str, str], str]] = []
    for cells in _stream(path):
        image = cells.pop("image")
        if len(image) > LONGEST_REFERENCE:
            digests[cells["index"]] = tuple(
                _digest(picture) for picture in _pictures(path, cells["index"], image)
            )
        if cells.get("split", "").startswith(
            "RefCOCO"
        ):  # the toolkit names RefCOCO's rows by split and index
            cells["row"], cells["index"] = cells["index"], f"{cells['split']}_{cells['index']}"
        rows.append((cells, image))
    seen: set[str] = set()
    questions = []
    for cells, image in rows:
        if cells["index"] in seen:
            raise GranvitError(f"{path}: index {cells['index']} stands twice; every question needs its own")
        seen.add(cells["index"])
        owner = image if len(image) <= LONGEST_REFERENCE else cells.pop("row", cells["index"])
        if owner not in digests:
            raise GranvitError(
                f"{path}: row {cells['index']}: image is '{owner}', which is neither base64 nor the index of "
                "a row "
                "that has a picture"
            )
        questions.append(Question(cells["index"], cells, digests[owner]))
    return questions


def read_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """``(digest, file bytes)`` of each different picture of a TSV, in file order."""
    seen: set[str] = set()
    for cells in _stream(path):
        image = cells["image"]
        for picture in _pictures(path, cells["index"], image) if len(image) > LONGEST_REFERENCE else []:
            digest = _digest(picture)
            if digest not in seen:
                seen.add(digest)
                yield digest, _decode(path, cells["index"], picture)


def _belongs(question: Question, benchmark: Benchmark) -> bool:
    if not question.cells.get("split", "").startswith(benchmark.split_prefix):
        return False
    category = question.cells.get("category", "").replace(" ", "_")
    return not benchmark.categories or category in benchmark.categories


def _stream(path: Path) -> Iterator[dict[str, str]]:
    """A TSV's rows with their non-empty cells; `index`, `image` and `question` are there."""
    if not path.is_file():
        raise GranvitError(
            f"{path}: no such benchmark file; put VLMEvalKit's TSV there, or run `snakemake` at a scale that "
            "makes it"
        )
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        missing = {"index", "image", "question"} - set(reader.fieldnames or ())
        if missing:
            raise GranvitError(
                f"{path}: column(s) {', '.join(sorted(missing))} missing; expected VLMEvalKit's format"
            )
        for number, row in enumerate(reader, start=2):
            if None in row or None in row.values():
                raise GranvitError(
                    f"{path}: line {number}: {len(row)} cells do not fit the header; fetch the file again"
                )
            cells = {key: value for key, value in row.items() if value != ""}
            for key in ("index", "image", "question"):
                if key not in cells:
                    raise GranvitError(f"{path}: line {number}: {key} is empty; every question needs one")
            yield cells


def _pictures(path: Path, index: str, image: str) -> list[str]:
    """The base64 of a cell's pictures: one, or the text of a list of them."""
    if not image.startswith("["):
        return [image]
    try:
        return [str(picture) for picture in ast.literal_eval(image)]
    except (ValueError, SyntaxError) as error:
        raise GranvitError(f"{path}: row {index}: image is no list of base64 texts ({error})") from None


def _digest(picture: str) -> str:
    return hashlib.sha256(picture.encode()).hexdigest()


def _decode(path: Path, index: str, picture: str) -> bytes:
    try:
        return base64.b64decode(picture, validate=True)
    except binascii.Error as error:
        raise GranvitError(
            f"{path}: row {index}: image is not base64 ({error}); fetch the file again"
        ) from None
