"""Sources: the rows of ``config/sources*.tsv``, one data set each (Table 6)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from granvit.data.adapters import ADAPTERS
from granvit.data.records import DATA_TYPES
from granvit.errors import GranvitError

USES = ("pretrain", "projector", "sft", "continued")
ANNOTATORS = ("given", "ocr")

_CHOICES = {"data_type": DATA_TYPES, "use": USES, "adapter": tuple(ADAPTERS), "annotator": ANNOTATORS}
_REQUIRED = ("name", "data_type", "group", "use", "adapter", "path", "annotator", "shards")
_OPTIONAL = ("reported_images", "reported_regions")


@dataclass(frozen=True)
class SourceSpec:
    """One row of a sources file.

    ``path`` is the raw folder relative to the repository, and may hold a literal ``{scale}``; ``group`` is
    the line of Table 7 it counts under; the ``reported`` counts are Table 6's, after filtering.
    """

    name: str
    data_type: str
    group: str
    use: str
    adapter: str
    path: str
    annotator: str
    shards: int
    reported_images: int | None = None
    reported_regions: int | None = None

    def shard_names(self) -> list[str]:
        """``00000``, ``00001``, ...: one ingest, annotate, filter and pack job each."""
        return [f"{shard:05d}" for shard in range(self.shards)]


def read_sources(tsv: str | Path) -> dict[str, SourceSpec]:
    """Sources by name, in the file's order.

    Raises GranvitError naming file, line, column and value for a missing or unknown column, a value outside
    its choices, a number that is none, or a name given twice.
    """
    tsv = Path(tsv)
    if not tsv.is_file():
        raise GranvitError(
            f"{tsv}: no such sources file; set `sources` in the scale's file to one that exists"
        )
    with open(tsv, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", restval="")
        columns = reader.fieldnames or []
        for column in _REQUIRED:
            if column not in columns:
                raise GranvitError(
                    f"{tsv}: column {column!r} is missing; expected {', '.join(_REQUIRED + _OPTIONAL)}"
                )
        for column in columns:
            if column not in _REQUIRED + _OPTIONAL:
                raise GranvitError(
                    f"{tsv}: unknown column {column!r}; expected {', '.join(_REQUIRED + _OPTIONAL)}"
                )
        sources: dict[str, SourceSpec] = {}
        for row in reader:
            place = f"{tsv}, line {reader.line_num}"
            source = _parse_row(row, place)
            if source.name in sources:
                raise GranvitError(f"{place}: name {source.name!r} is given twice; rename one of the rows")
            sources[source.name] = source
    if not sources:
        raise GranvitError(f"{tsv}: no sources; add at least one row")
    return sources


def _parse_row(row: dict[str, str], place: str) -> SourceSpec:
    if None in row:
        raise GranvitError(f"{place}: more values than columns ({row[None]}); separate columns with one tab")
    for column in _REQUIRED:
        if not row[column]:
            raise GranvitError(f"{place}: {column} is empty; fill it in")
    if not row["name"].replace("-", "").replace("_", "").isalnum() or not row["name"].isascii():
        raise GranvitError(f"{place}: name {row['name']!r} names folders: use letters, digits, - and _ only")
    for column, choices in _CHOICES.items():
        if row[column] not in choices:
            raise GranvitError(f"{place}: {column} is {row[column]!r}; expected one of {', '.join(choices)}")
    if row["annotator"] == "ocr" and row["data_type"] != "ocr":
        raise GranvitError(
            f"{place}: annotator 'ocr' is for data_type 'ocr', not {row['data_type']!r}; use 'given'"
        )
    return SourceSpec(
        **{column: row[column] for column in _REQUIRED if column != "shards"},
        shards=_parse_count(row, "shards", place),
        reported_images=_parse_count(row, "reported_images", place),
        reported_regions=_parse_count(row, "reported_regions", place),
    )


def _parse_count(row: dict[str, str], column: str, place: str) -> int | None:
    text = row.get(column)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise GranvitError(f"{place}: {column} is {text!r}; expected a whole number of at least 1")
    return int(text)
