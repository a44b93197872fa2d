"""PaddleOCR's labels, as PPOCRLabel writes them: a line an image, with all its text lines as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from granvit.boxes import around
from granvit.data.records.records import Region, Rejected
from granvit.data.sources.adapters.json_stream import open_text
from granvit.data.sources.items import Place, RawItem, add_regions, is_number, text

OPTIONS = {
    "annotations": "the file of labels (Label.txt)",
    "images": "the folder that the labels' paths begin at (.)",
    "illegible": "the text that stands for one that cannot be read (### and *, as PaddleOCR has it)",
}
_ILLEGIBLE = ("###", "*")


def read_paddle_labels(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``Label.txt`` with ``path TAB [{"transcription": "...", "points": [[x, y], ...]}, ...]`` in each line.

    PPOCRLabel lays the file among the images and writes their folder's name in front of theirs: a path that
    is not there is looked for without its first folder. A text that stands askew gets the upright box around
    its points. One that stands for what cannot be read is rejected: ``illegible_text``; a line that cannot be
    read costs its image: ``broken_annotations``.
    """
    root = Path(root)
    path, folder = root / settings.get("annotations", "Label.txt"), settings.get("images", ".")
    illegible = (settings["illegible"],) if "illegible" in settings else _ILLEGIBLE
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            name, tab, labels = line.rstrip("\r\n").partition("\t")
            place = _place(root, folder, name) if tab else None
            item = RawItem(place.file if place else f"{path.name}/line/{number}", place)
            try:
                regions = json.loads(labels)
            except (ValueError, RecursionError):
                item.place = Place(f"{path.name}: line {number}", problem="broken_annotations")
            else:
                add_regions(item, regions, lambda entry: _region(entry, illegible))
            yield item


def _place(root: Path, folder: str, name: str) -> Place | None:
    """One image, however its path is written."""
    names = [part for part in (name, name.partition("/")[2]) if part]
    places = [Place(os.path.normpath(Place.of(folder, part).file)) for part in names]
    # Unlike Path.exists, os.path.exists calls a name that is too long one that is not there.
    there = (place for place in places if os.path.exists(root / place.file))
    return next(there, places[0] if places else None)


def _region(entry: object, illegible: tuple[str, ...]) -> Region:
    entry = entry if isinstance(entry, dict) else {}
    points = entry.get("points")
    if not isinstance(points, list) or len(points) < 2:
        raise Rejected("bad_box")
    if not all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points):
        raise Rejected("bad_box")
    words = text(entry.get("transcription")) or ""
    if words in illegible:
        raise Rejected("illegible_text")
    return Region(around([value for point in points for value in point]), words)
