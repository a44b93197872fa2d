"""Questions and images as VLMEvalKit's TSV files hold them, read as that toolkit reads them.

A file may hold gigabytes of base64, so it is streamed, one row in memory at a time: `read_rows` gives
everything but the pictures, `read_images` gives each different picture once.
"""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import itertools
import re
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from granvit.errors import GranvitError
from granvit.files import file_hash

LONGEST_REFERENCE = 64  # an `image` cell this short is not a picture but another row's index
# Cells that pandas, and so the toolkit, takes for empty: an option called "None" is none.
MISSING = {
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
}  # fmt: skip
REFCOCO = "RefCOCO"  # the data set whose rows the toolkit names by their splits
_SPLITS = {"val": "val", "test": "test", "testa": "testA", "testb": "testB"}
# Folders under images/ that are not called as their file.
IMAGE_FOLDERS = {"MMBench_DEV_EN": "MMBench", "MMBench_DEV_EN_V11": "MMBench_V11"}

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True)
class Question:
    """One row of a TSV: its cells without the pictures, and the digests of the pictures that it shows, in
    order.
    """

    index: str
    cells: dict[str, str]
    images: tuple[str, ...]


def file_md5(path: str | Path) -> str:
    """md5 of a whole file, hexadecimal, read in pieces; computed once a process for each version of it."""
    stat = Path(path).stat()
    return _md5(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _md5(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def read_rows(path: Path) -> list[Question]:
    """Every row of a TSV that shows an image; of the images, which may be gigabytes, only digests are kept.

    Raises GranvitError where the file or a column is missing, a row is cut off, has no question or an index
    that another has, or refers to an image that is not there.
    """
    path = Path(path)
    own: dict[str, tuple[str, ...]] = {}  # pictures of the rows that bring some
    rows: list[tuple[dict[str, str], tuple[str, ...] | str]] = []  # with pictures, or whose they are
    for cells in _stream(path):
        image, raw = cells.pop("image", ""), cells["index"]
        cells["index"] = named(cells)
        shown: tuple[str, ...] | str = image
        if not _refers(image):
            shown = tuple(map(_digest, _pictures(path, raw, image, cells)))
            own |= {raw: own.get(raw, shown), cells["index"]: shown}
        rows.append((cells, shown))
    questions: dict[str, Question] = {}
    for cells, shown in rows:
        index = cells["index"]
        if isinstance(shown, str):
            if shown not in own:
                raise GranvitError(
                    f"{path}: row {index}: image is '{shown}', neither base64 nor the index of a row that "
                    "has a picture; fetch the file again"
                )
            shown = own[shown]
        if index in questions:
            raise GranvitError(
                f"{path}: index {index} stands twice; every question needs its own. Fetch the file again"
            )
        questions[index] = Question(index, cells, shown)
    return list(questions.values())


def split_of(category: str) -> str:
    """RefCOCO's split out of a category, as the toolkit reads it: ``RefCOCO+ test A`` -> RefCOCO+_testA."""
    name, _, rest = category.strip().partition(" ")
    rest = rest.strip()
    known = _SPLITS.get(re.sub(r"[\s_-]+", "", rest.lower()))
    part = known or rest.replace(" ", "_").replace("-", "_")
    return f"{name}_{part}" if part else name or REFCOCO


def _refers(image: str) -> bool:
    return 0 < len(image) <= LONGEST_REFERENCE


def named(cells: Mapping[str, Any]) -> str:
    """A row's index; the toolkit names RefCOCO's rows by split and index."""
    split = str(cells.get("split", ""))
    return f"{split}_{cells['index']}" if split.startswith("RefCOCO") else cells["index"]


def read_images(path: Path, wanted: Container[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """``(digest, file bytes)`` of each different picture of a TSV (of those ``wanted``), in file order."""
    path, seen = Path(path), set()
    for cells in _stream(path):
        image, index = cells.get("image", ""), cells["index"]
        for picture in [] if _refers(image) else _pictures(path, index, image, cells):
            digest = _digest(picture)
            if digest not in seen and (wanted is None or digest in wanted):
                seen.add(digest)
                yield digest, _bytes(path, index, picture)


def _stream(path: Path) -> Iterator[dict[str, str]]:
    """Rows that show an image, without empty cells; `index` and `question` are there, and `image` or
    `image_path`."""
    if not path.is_file():
        raise GranvitError(
            f"{path}: no such benchmark file; put VLMEvalKit's TSV there, or run `snakemake` at a scale that "
            "makes it"
        )
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = 0
        try:
            records = _records(file)
            line, columns = next(records, (1, []))
            _check_columns(path, columns)
            for line, record in records:
                cells = _cells(f"{path}: line {line}", columns, record)
                if path.stem.removesuffix("_local") == REFCOCO:
                    cells.setdefault("split", split_of(cells.get("category", "")))
                if "image" in cells or "image_path" in cells:  # the toolkit skips rows without an image, too
                    yield cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise GranvitError(
                f"{path}: after line {line}: not tab-separated UTF-8 ({error}); fetch the file again"
            ) from None


def _records(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each record. Only one with a quote needs csv, which takes ten seconds a gigabyte."""
    number = 0
    for line in file:
        first, record = number + 1, line.rstrip("\r\n").split("\t")
        number = first
        if '"' in line:  # a quoted cell may go on in the lines that follow
            reader = csv.reader(itertools.chain([line], file), delimiter="\t")
            record = next(reader)
            number += reader.line_num - 1
        if record not in ([], [""]):
            yield first, record


def _cells(place: str, columns: Sequence[str], record: Sequence[str]) -> dict[str, str]:
    if len(record) != len(columns):
        raise GranvitError(
            f"{place}: {len(record)} cells do not fit the header's {len(columns)}; fetch the file again"
        )
    cells = {key: value for key, value in zip(columns, record, strict=True) if value not in MISSING}
    for key in ("index", "question"):
        if key not in cells:
            raise GranvitError(f"{place}: {key} is empty; every question needs one")
    return cells


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = {"index", "question"} - set(columns)
    if not {"image", "image_path"} & set(columns):
        missing.add("image")
    if missing:
        raise GranvitError(
            f"{path}: column(s) {', '.join(sorted(missing))} missing; expected VLMEvalKit's format"
        )


def _pictures(path: Path, index: str, image: str, cells: dict[str, str]) -> list[str | Path]:
    """A row's pictures: base64 texts, or files where it brings none."""
    if image:
        return [*_members(path, index, "image", image)]
    return [_find(path, index, name) for name in _members(path, index, "image_path", cells["image_path"])]


def _members(path: Path, index: str, column: str, text: str) -> list[str]:
    """The members of a cell that spells a list, else the cell alone."""
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    try:
        return [str(member) for member in ast.literal_eval(text)]
    except (ValueError, SyntaxError, MemoryError) as error:
        kind = type(error).__name__
        raise GranvitError(
            f"{path}: row {index}: {column} is no list of texts ({kind}); fetch the file again"
        ) from None


def _find(path: Path, index: str, name: str) -> Path:
    """The file that `image_path` names: absolute, or below the data folder's images/{dataset}."""
    stem = path.stem.removesuffix(
        "_local"
    )  # the toolkit's copy, without pictures, of a file beyond a gigabyte
    folders = [path.parent / "images" / folder for folder in (IMAGE_FOLDERS.get(stem, stem), stem)]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise GranvitError(
        f"{path}: row {index}: image_path is '{name}', which is not in {folders[0]}; put the images there"
    )


def _digest(picture: str | Path) -> str:
    """sha256 of a picture's base64 text, or of its file's bytes."""
    if isinstance(picture, str):
        return hashlib.sha256(picture.encode()).hexdigest()
    return file_hash(picture)


def _bytes(path: Path, index: str, picture: str | Path) -> bytes:
    if isinstance(picture, Path):
        return picture.read_bytes()
    try:
        return base64.b64decode(picture)
    except ValueError as error:
        raise GranvitError(
            f"{path}: row {index}: image is not base64 ({error}); fetch the file again"
        ) from None
