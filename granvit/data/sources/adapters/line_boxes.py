"""Text lines as the ICDAR competitions publish them (SROIE): one text file of boxes an image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from granvit.boxes import around
from granvit.data.records.records import Region, Rejected
from granvit.data.sources.adapters.folder import below, image_files, walk
from granvit.data.sources.adapters.json_stream import open_text
from granvit.data.sources.items import Place, RawItem, add_regions, box, is_number, text
from granvit.errors import GranvitError

OPTIONS = {
    "images": "the folder of images (img)",
    "boxes": "the folder of box files (box)",
    "points": "corners before the text: 4 (x1,y1,...,x4,y4) or 2 (x1,y1,x2,y2) (4)",
    "between": "columns between the corners and the text, such as MLT's script: 0 or 1 (0)",
    "box_names": "a box file's name without its suffix, * for its image's: gt_* for ICDAR 2015 (*)",
    "illegible": "the text that stands for one that cannot be read (###)",
}
_SUFFIXES = (".csv", ".txt")


def read_line_boxes(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``img/NAME.jpg`` and ``box/NAME.csv`` with ``x1,y1,x2,y2,x3,y3,x4,y4,text`` in each line.

    The text may hold commas, and may stand in quotes. A line that stands askew gets the upright box around
    it. One that ICDAR marks as illegible is rejected: ``illegible_text``.
    """
    root = Path(root)
    images, boxes = settings.get("images", "img"), settings.get("boxes", "box")
    points = settings.get("points", "4")
    if points not in ("2", "4"):
        raise GranvitError(f"{root}: option points is {points!r}; expected 2 or 4")
    pattern = settings.get("box_names", "*")
    if pattern.count("*") != 1:
        raise GranvitError(f"{root}: option box_names is {pattern!r}; expected a name with one *, as in gt_*")
    columns = _Columns(2 * int(points), int(settings.get("between", "0")), settings.get("illegible", "###"))
    if not (root / boxes).is_dir():
        raise GranvitError(
            f"{root / boxes}: no such folder; name the folder of box files in the option `boxes`"
        )
    for name, problem in image_files(root / images):
        # What cannot be read keeps its suffix: it is not the picture that the box file is about.
        stem = name if problem else os.path.splitext(name)[0]
        yield RawItem(stem, Place(os.path.normpath(f"{images}/{name}"), problem=problem))
    for name, path in _box_files(root / boxes, pattern):
        item = RawItem(name, None, joins=True)
        with open_text(path) as file:
            lines = [line.rstrip("\r\n") for line in filter(str.strip, file)]
        add_regions(item, lines, columns.region)
        yield item


def _box_files(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """The name of the image that a box file is about, and the file; names that do not fit the pattern are as
    they are."""
    before, after = pattern.split("*")
    for place, names in walk(folder):
        files: dict[str, str] = {}
        for name in (name for name in names if Path(name).suffix.lower() in _SUFFIXES):
            stem = Path(name).stem
            if stem.startswith(before) and stem.endswith(after) and len(stem) > len(before + after):
                stem = stem[len(before) : len(stem) - len(after)]
            stem = below(place, stem)
            if stem in files:
                raise GranvitError(
                    f"{folder / place}: {files[stem]} and {name} are about one image; keep one of them"
                )
            files[stem] = name
            yield stem, folder / place / name


@dataclass(frozen=True)
class _Columns:
    """What stands in a line: ``numbers`` of corners, ``between`` columns that are passed over, the text."""

    numbers: int
    between: int
    illegible: str

    def region(self, line: str) -> Region:
        before = self.numbers + self.between
        parts = line.split(",", before)
        if len(parts) <= before:
            raise Rejected("bad_box")
        try:
            values = [float(part) for part in parts[: self.numbers]]
        except ValueError as error:
            raise Rejected("bad_box") from error
        if not all(map(is_number, values)):
            raise Rejected("bad_box")
        words = _unquoted(text(parts[before]) or "")
        if words == self.illegible:
            raise Rejected("illegible_text")
        return Region(around(values) if self.numbers == 8 else box(values), words)


def _unquoted(words: str) -> str:
    """A text without the quotes around it, as tables write them: a quote inside is doubled."""
    if len(words) > 1 and words[0] == words[-1] == '"':
        return words[1:-1].replace('""', '"').strip()
    return words
