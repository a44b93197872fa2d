"""Sources: the rows of ``config/sources*.tsv``, one data set each (Table 6)."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from granvit.data.records.records import DATA_TYPES
from granvit.data.sources.adapters import ADAPTERS, OPTIONS, REQUIRED
from granvit.errors import GranvitError

USES = ("pretrain", "projector", "sft", "continued")
BOXES = ("given", "detector", "ocr", "none")
CAPTIONS = ("given", "captioner", "none")
TEXTS = ("given", "captioner", "ocr", "none")

_CHOICES = {
    "data_type": DATA_TYPES,
    "use": USES,
    "adapter": tuple(ADAPTERS),
    "boxes": BOXES,
    "captions": CAPTIONS,
    "text": TEXTS,
}
# Where the texts of regions can come from, by where their boxes come from.
_TEXTS_OF_BOXES = {
    "given": ("given", "captioner"),
    "detector": ("captioner",),
    "ocr": ("ocr",),
    "none": ("none",),
}
_RESERVED = {"total", "all", "none"}  # rows and choices of reports and tables
_MOST_SHARDS = 100_000  # their names have five digits
_INSIDE = ("images", "files")  # options that name what has to lie below the row's path
_REQUIRED = ("name", "data_type", "group", "use", "adapter", "path", "boxes", "captions", "text", "shards")
_OPTIONAL = ("options", "origin", "fetch", "licence", "reported_images", "reported_regions")


@dataclass(frozen=True)
class SourceSpec:
    """One row of a sources file.

    ``path`` is the raw folder relative to the repository, or a URL that fsspec opens (``hf://datasets/...``,
    Parquet only), and may hold a literal ``{scale}``. ``group`` is the line of Table 7 it counts under.
    ``boxes``, ``captions`` (of whole images) and ``text`` (of regions) say where each comes from.
    ``options`` is the adapter's own, ``a=b;c=d``. ``origin``, ``fetch`` and ``licence`` are for people: where
    the data are published, the command that fetches them into ``path``, their terms. The ``reported`` counts
    are Table 6's, after filtering. ``row`` is where the row stands, for messages.
    """

    name: str
    data_type: str
    group: str
    use: str
    adapter: str
    path: str
    boxes: str
    captions: str
    text: str
    shards: int
    options: str = ""
    origin: str = ""
    fetch: str = ""
    licence: str = ""
    reported_images: int | None = None
    reported_regions: int | None = None
    row: str = field(default="", compare=False)

    @property
    def settings(self) -> dict[str, str]:
        """``options`` by name."""
        return parse_options(self.options)

    @property
    def is_remote(self) -> bool:
        return "://" in self.path

    @property
    def root(self) -> Path | str:
        """What adapters and ImagePlaces take: a folder, or the URL as it is."""
        return self.path if self.is_remote else Path(self.path)

    def shard_names(self) -> list[str]:
        """``00000``, ``00001``, ...: one ingest, annotate, filter and pack job each."""
        return [f"{shard:05d}" for shard in range(self.shards)]


def absent_source(source: SourceSpec) -> GranvitError:
    """The error for a source whose data are not there: its row, the path looked at, how to get them."""
    row = f"{source.row}: " if source.row else ""
    parts = [
        f"{row}source {source.name!r}: its data are absent, {Path(source.path).absolute()} does not exist."
    ]
    if source.fetch:
        parts.append(f"Fetch them with `{source.fetch}`")
        parts.append(f"(published at {source.origin}),") if source.origin else parts.append("")
    else:
        parts.append(f"Put them there{f' ({source.origin})' if source.origin else ''},")
    parts.append("or change the row's `path` (layouts: docs/data.md)")
    return GranvitError(" ".join(part for part in parts if part))


def parse_options(text: str) -> dict[str, str]:
    """``a=b;c=d`` as a dictionary. Raises ValueError naming a part that is no ``name=value``."""
    settings: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not name or not equals or not value:
            raise ValueError(f"{part!r} is no `name=value`")
        if name in settings:
            raise ValueError(f"{name!r} is given twice")
        settings[name] = value
    return settings


def read_sources(tsv: str | Path) -> dict[str, SourceSpec]:
    """Sources by name, in the file's order; no disk is looked at but this file.

    Raises GranvitError naming file, line, column and value for a missing or unknown column, a value outside
    its choices, a number that is none, or a name given twice, be it in other cases: names become folders,
    and not every disk tells Mine from MINE.
    """
    tsv = Path(tsv)
    if not tsv.is_file():
        raise GranvitError(
            f"{tsv}: no such sources file; set `sources` in the scale's file to one that exists"
        )
    try:
        lines = io.StringIO(tsv.read_text(encoding="utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise GranvitError(f"{tsv}: byte {error.start + 1:,} is no UTF-8; save the file as UTF-8") from error
    # Quotes are letters here: a fetch command may hold them.
    reader = csv.DictReader(lines, delimiter="\t", restval="", quoting=csv.QUOTE_NONE)
    _check_columns(tsv, reader.fieldnames or [])
    sources: dict[str, SourceSpec] = {}
    names: dict[str, str] = {}
    for row in reader:
        place = f"{tsv}, line {reader.line_num}"
        source = _parse_row(row, place)
        before = names.setdefault(source.name.lower(), source.name)
        if source.name in sources:
            raise GranvitError(f"{place}: name {source.name!r} is given twice; rename one of the rows")
        if before != source.name:
            raise GranvitError(
                f"{place}: names {before!r} and {source.name!r} differ in case only; rename one"
            )
        sources[source.name] = source
    if not sources:
        raise GranvitError(f"{tsv}: no sources; add at least one row")
    return sources


def _check_columns(tsv: Path, columns: list[str]) -> None:
    expected = f"expected {', '.join(_REQUIRED)}; optional {', '.join(_OPTIONAL)}"
    for column in _REQUIRED:
        if column not in columns:
            raise GranvitError(f"{tsv}: column {column!r} is missing; {expected}, separated by tabs")
    for column in columns:
        if column not in _REQUIRED + _OPTIONAL:
            raise GranvitError(f"{tsv}: unknown column {column!r}; {expected}")
        if columns.count(column) > 1:
            raise GranvitError(f"{tsv}: column {column!r} is there twice; delete one")


def _parse_row(row: dict[str, str], place: str) -> SourceSpec:
    if None in row:
        raise GranvitError(f"{place}: more values than columns ({row[None]}); separate columns with one tab")
    row = {column: value.strip() for column, value in row.items()}
    for column in _REQUIRED:
        if not row[column]:
            raise GranvitError(f"{place}: {column} is empty; fill it in")
    if not row["name"].replace("-", "").replace("_", "").isalnum() or not row["name"].isascii():
        raise GranvitError(f"{place}: name {row['name']!r} names folders: use letters, digits, - and _ only")
    if row["name"].lower() in _RESERVED:
        raise GranvitError(
            f"{place}: name {row['name']!r} stands for something else in reports; rename the source"
        )
    for column, choices in _CHOICES.items():
        if row[column] not in choices:
            raise GranvitError(f"{place}: {column} is {row[column]!r}; expected one of {', '.join(choices)}")
    if (row["use"] == "pretrain") == (row["data_type"] == "instruction"):
        raise GranvitError(
            f"{place}: use is {row['use']!r} where data_type is {row['data_type']!r}; natural and ocr data "
            "are for pretrain, instruction data for projector, sft or continued"
        )
    _check_annotators(row, place)
    _check_options(row, place)
    _check_path(row, place)
    counts = {
        name: _parse_count(row, name, place) for name in ("shards", "reported_images", "reported_regions")
    }
    if counts["shards"] > _MOST_SHARDS:
        raise GranvitError(f"{place}: shards is {row['shards']!r}; expected at most {_MOST_SHARDS:,}")
    texts = {spec.name: row.get(spec.name, "") for spec in fields(SourceSpec) if spec.name not in counts}
    return SourceSpec(**(texts | counts | {"row": place}))


def _check_annotators(row: dict[str, str], place: str) -> None:
    boxes, text = row["boxes"], row["text"]
    if text not in _TEXTS_OF_BOXES[boxes]:
        raise GranvitError(
            f"{place}: text is {text!r} where boxes is {boxes!r}; expected one of "
            f"{', '.join(_TEXTS_OF_BOXES[boxes])} (text is what regions say, captions are of whole images)"
        )
    if boxes == "ocr" and row["data_type"] != "ocr":
        raise GranvitError(
            f"{place}: boxes 'ocr' is for data_type 'ocr', not {row['data_type']!r}; use given or detector"
        )
    if boxes == "none" and row["data_type"] != "instruction":
        raise GranvitError(
            f"{place}: boxes is 'none' where data_type is {row['data_type']!r}, so that no image would pass "
            "the filters; use given, detector or ocr"
        )


def _check_options(row: dict[str, str], place: str) -> None:
    known = OPTIONS[row["adapter"]]
    try:
        settings = parse_options(row.get("options", ""))
    except ValueError as error:
        raise GranvitError(f"{place}: options: {error}; write `name=value;name=value`") from error
    for name in settings:
        if name not in known:
            listed = "; ".join(f"{option}: {meaning}" for option, meaning in known.items())
            raise GranvitError(
                f"{place}: options: adapter {row['adapter']!r} has no {name!r}; it takes {listed or 'none'}"
            )
    for name in REQUIRED.get(row["adapter"], ()):
        if name not in settings:
            raise GranvitError(
                f"{place}: options: adapter {row['adapter']!r} needs {name}=... ({known[name]})"
            )
    for name in (name for name in _INSIDE if name in settings):
        _check_inside(name, settings[name], row, place)


def _check_inside(name: str, value: str, row: dict[str, str], place: str) -> None:
    for part in map(str.strip, value.split(",")):
        if os.path.isabs(part) or os.path.normpath(part).split(os.sep)[0] == "..":
            raise GranvitError(
                f"{place}: options: {name} is {value!r}, outside the row's path {row['path']!r}; name it "
                "relative to the path (a link in there may lead elsewhere), or change the path"
            )


def _check_path(row: dict[str, str], place: str) -> None:
    if "://" in row["path"] and row["adapter"] != "parquet":
        raise GranvitError(
            f"{place}: path is {row['path']!r}; adapter {row['adapter']!r} needs a folder (a URL is for "
            "'parquet' alone)"
        )


def _parse_count(row: dict[str, str], column: str, place: str) -> int | None:
    text = row.get(column)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise GranvitError(f"{place}: {column} is {text!r}; expected a whole number of at least 1")
    return int(text)
