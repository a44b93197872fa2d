"""Hugging Face's image folders: images with a `metadata.jsonl`, or `metadata.csv`, beside them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from granvit.data.records.records import Region, Rejected
from granvit.data.sources.adapters.class_names import class_name, read_class_names
from granvit.data.sources.adapters.entries import describe, field, parse_entry, read_region
from granvit.data.sources.adapters.folder import below, image_files, walk
from granvit.data.sources.adapters.json_stream import open_text
from granvit.data.sources.box_formats import LISTED
from granvit.data.sources.items import Place, RawItem
from granvit.data.sources.turn_boxes import OPTION as TURN_BOXES
from granvit.errors import GranvitError

OPTIONS = {
    "annotations": "what the files are called, in whatever folder (metadata.jsonl, else metadata.csv)",
    "image": "the field of the image's file, seen from there (file_name)",
    "caption": "the field of the global caption (text, else caption)",
    "regions": "the field of the regions: a list of objects, or an object of lists (objects)",
    "box": "the field of boxes in it (bbox)",
    "text": "the field of texts in it (categories, else category)",
    "classes": "a file that names categories that are numbers, one name a line, or names: in YAML",
    "box_format": f"{LISTED} (xywh)",
} | TURN_BOXES
_CALLED = ("metadata.jsonl", "metadata.csv")
# Of a CSV, in characters: more is a quote that nothing closes. csv's own limit is one for the whole process,
# and reading benchmarks lifts it.
_LONGEST_FIELD = 1 << 17


def read_metadata_jsonl(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """One item a line of each ``metadata.jsonl``, and one an image that no line names. Where a folder has a
    ``metadata.csv`` instead, its rows are read, whose values are texts: file and caption.

    A line that cannot be read is ``broken_annotations``, one that names no image ``no_image``; of two lines
    about one image the second is a duplicate. Raises GranvitError where there is no such file, and where
    categories are numbers that nothing names: they would become empty texts.
    """
    root = Path(root)
    called = (settings["annotations"],) if "annotations" in settings else _CALLED
    names = read_class_names(root / settings["classes"]) if "classes" in settings else None
    found = False
    for folder, files in walk(root):
        for name in [name for name in called if name in files][:1]:
            found = True
            yield from _items(root, below(folder, name), folder, names, settings)
    if not found:
        raise GranvitError(
            f"{root}: no {' or '.join(called)} in it or in a folder below; put it beside the images, "
            "or name it in the option `annotations`"
        )
    for name, problem in image_files(root):
        yield RawItem(name, Place(name, problem=problem), joins=True)


def _items(
    root: Path, file: str, folder: str, names: dict[int, str] | None, settings: dict[str, str]
) -> Iterator[RawItem]:
    read = _csv_rows if file.endswith(".csv") else _json_lines
    for number, entry in read(root / file):
        item = RawItem(f"{file}/line/{number}", None)
        if entry is None:
            item.place = Place(f"{file}: line {number}", problem="broken_annotations")
        else:
            item.place = Place.of(folder, entry.get(settings.get("image", "file_name")))
            if item.place:  # one image, however its path is written
                item.place = Place(os.path.normpath(item.place.file))
                item.original_id = item.place.file
            fields = _fields(entry, settings)
            describe(item, entry, fields, _reader(names, fields, f"{root / file}, line {number}"))
        yield item


def _json_lines(path: Path) -> Iterator[tuple[int, dict | None]]:
    """Numbers of lines, and their objects; None for a line that cannot be read."""
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, parse_entry(line.encode("utf-8", "surrogateescape"))
                except (Rejected, UnicodeEncodeError):
                    yield number, None


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Numbers of the lines in which rows end, and the rows by the names in the first line."""
    with open_text(path) as file:
        rows = csv.DictReader(file)
        try:
            for row in rows:
                if any(isinstance(value, str) and len(value) > _LONGEST_FIELD for value in row.values()):
                    raise csv.Error(f"field larger than field limit ({_LONGEST_FIELD})")
                yield rows.line_num, row
        except csv.Error as error:
            where = f"{path}, behind line {rows.line_num}"
            raise GranvitError(f"{where}: no CSV ({error}); export it again") from error


def _fields(entry: dict, settings: dict[str, str]) -> dict[str, str]:
    """The names of an entry's fields: those that are usual, where no option gives them."""
    fields = {"regions": "objects", "box": "bbox", "box_format": "xywh"} | settings
    fields.setdefault("caption", "text" if field(entry, "text") is not None else "caption")
    objects = field(entry, fields["regions"])
    one = objects[0] if isinstance(objects, list) and objects else objects
    plural = isinstance(one, dict) and "categories" in one
    fields.setdefault("text", "categories" if plural else "category")
    return fields


def _reader(names: dict[int, str] | None, fields: dict[str, str], where: str) -> Callable[[object], Region]:
    """A function that reads a region, a category's name in the place of its number."""
    name = fields["text"]

    def read(region: object) -> Region:
        value = region.get(name) if isinstance(region, dict) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if names is None:
                raise GranvitError(
                    f"{where}: {name!r} holds numbers, and nothing names the categories; write their names "
                    "into a file, one a line, and name it in the option `classes`"
                )
            region = region | {name: class_name(names, value)}
        return read_region(region, fields)

    return read
