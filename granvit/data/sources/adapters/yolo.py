"""YOLO's layout: a text file of boxes beside each image, or in `labels/` for `images/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from granvit.boxes import around
from granvit.data.records.records import Region, Rejected
from granvit.data.sources.adapters.class_names import class_name, read_class_names, read_yaml
from granvit.data.sources.adapters.file_kinds import is_junk
from granvit.data.sources.adapters.folder import below, image_files, walk
from granvit.data.sources.adapters.json_stream import open_text
from granvit.data.sources.box_formats import LISTED
from granvit.data.sources.items import Place, RawItem, add_regions, box, is_number
from granvit.errors import GranvitError

OPTIONS = {
    "images": "the folder of images, such as images/train; labels/train is then that of the boxes (.)",
    "classes": "the file of the classes' names (data.yaml, else classes.txt or labels/classes.txt)",
    "box_format": f"{LISTED} (cxcywh_relative)",
}
_CLASSES = ("data.yaml", "classes.txt", "labels/classes.txt")
_IMAGES, _LABELS = "images", "labels"


def read_yolo(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``labels/NAME.txt`` for ``images/NAME.jpg`` at any depth, or beside the image where its path has no
    part ``images``: a class's number and its box in each line. The class's name is the region's text.

    A line with more numbers is a polygon (segmentation, oriented boxes), and its region the upright box
    around it, or with ``kpt_shape`` in ``data.yaml`` a box with key points, which are passed over; a number
    behind is the score. Raises GranvitError where no file names the classes.
    """
    root = Path(root)
    images = os.path.normpath(settings.get("images", "."))
    classes = _classes_file(root, settings)
    is_yaml = classes.suffix.lower() in (".yaml", ".yml")
    rows = _Rows(
        read_class_names(classes),
        settings.get("box_format", "cxcywh_relative"),
        is_yaml and "kpt_shape" in read_yaml(classes),
    )
    for name, problem in image_files(root / images):
        path = below(images, name)
        yield RawItem(path if problem else os.path.splitext(path)[0], Place(path, problem=problem))
    for name, path in _label_files(root, _other(images, _IMAGES, _LABELS) or images):
        if path == classes:
            continue
        item = RawItem(name, None, joins=True)
        with open_text(path) as file:
            lines = [line for line in file if line.strip()]
        add_regions(item, lines, rows.region)
        yield item


def _classes_file(root: Path, settings: dict[str, str]) -> Path:
    if "classes" in settings:
        return root / settings["classes"]
    for name in _CLASSES:
        if (root / name).is_file():
            return root / name
    raise GranvitError(
        f"{root}: none of {', '.join(_CLASSES)} is there; name the file of the classes' names in the option "
        "`classes`, or write one name a line into classes.txt"
    )


def _label_files(root: Path, start: str) -> Iterator[tuple[str, Path]]:
    """The id of the image that a label file is about, and the file. Outside of folders `labels` those texts
    count that lie beside an image of their name: others are lists and notes."""
    for place, names in walk(root / start):
        folder = below(start, place)
        images = _other(folder, _LABELS, _IMAGES)
        beside = images is None and _other(folder, _IMAGES, _LABELS) is None
        stems = {os.path.splitext(name)[0] for name in names if not name.endswith(".txt")} if beside else ()
        for stem, suffix in map(os.path.splitext, names):
            if suffix == ".txt" and not is_junk(stem) and (images is not None or stem in stems):
                yield below(folder if images is None else images, stem), root / folder / f"{stem}.txt"


def _other(folder: str, part: str, by: str) -> str | None:
    """The folder with its last part called ``part`` called ``by``; None where none is."""
    parts = folder.split("/")
    if part not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index(part)
    return "/".join([*parts[:last], by, *parts[last + 1 :]])


@dataclass(frozen=True)
class _Rows:
    """How the lines of label files are read."""

    names: dict[int, str]
    form: str
    has_points: bool

    def region(self, line: str) -> Region:
        kind, *numbers = line.split()
        try:
            values = [float(number) for number in numbers]
        except ValueError as error:
            raise Rejected("bad_box") from error
        if len(values) < 4 or not all(map(is_number, values)):
            raise Rejected("bad_box")
        certain = None
        if len(values) % 2 and not self.has_points:
            certain = values.pop()
        is_box = len(values) == 4 or self.has_points
        xyxy = box(values[:4], self.form) if is_box else around(values)
        return Region(xyxy, class_name(self.names, kind), certain)
