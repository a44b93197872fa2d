"""UMG-41M's layout: a JSON object beside each image, or one file of JSON lines.

The published card says that each JSON file lies in a folder with its image, and what it tells (tags, captions
and masks of image and regions), but not under which names; so the names are options.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from granvit.data.records.records import Rejected
from granvit.data.sources.adapters.entries import OPTIONS as ENTRY_OPTIONS
from granvit.data.sources.adapters.entries import describe, parse_entry, read_small
from granvit.data.sources.adapters.file_kinds import is_junk, look_through
from granvit.data.sources.adapters.folder import below, walk
from granvit.data.sources.adapters.json_stream import open_text
from granvit.data.sources.items import Place, RawItem

OPTIONS = {
    "annotations": "one file of JSON lines with `image` in each, instead of a JSON file beside each image",
    "images": "the folder that `image` refers to (images), or that holds images and JSON files (.)",
} | ENTRY_OPTIONS


def read_umg(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """One item an image: box, text and caption under the names that the options give.

    A JSON file that cannot be read costs its image, a line its own image: ``broken_annotations``. Of several
    images with one stem the first by name is taken; the others are items of the same id, and so duplicates.
    """
    if "annotations" in settings:
        return _lines(Path(root) / settings["annotations"], settings)
    return _files(Path(root), settings)


def _files(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    start = settings.get("images", ".")
    for place, names in walk(root / start):
        folder = below(start, place)
        images: dict[str, list[str]] = {}
        texts = {Path(name).stem: name for name in names if name.endswith(".json") and not is_junk(name)}
        unread: dict[str, Place] = {}
        for name, problem in look_through(root / folder, names):
            if not problem:
                images.setdefault(Path(name).stem, []).append(name)
            elif Path(name).stem in texts:
                unread[Path(name).stem] = Place(below(folder, name), problem=problem)
            else:
                yield RawItem(below(folder, name), Place(below(folder, name), problem=problem))
        for stem in sorted(images.keys() | texts.keys()):
            item = RawItem(below(folder, stem), unread.get(stem))
            places = [Place(below(folder, name)) for name in images.get(stem, ())]
            if places:
                item.place = places[0]
            try:
                if stem in texts:
                    describe(item, parse_entry(read_small(root / folder / texts[stem])), settings)
            except (Rejected, OSError):
                item.place = Place(below(folder, texts[stem]), problem="broken_annotations")
            yield item
            yield from (RawItem(item.original_id, extra) for extra in places[1:])


def _lines(path: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    folder = settings.get("images", "images")
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            item = RawItem(f"line/{number}", None)
            try:
                entry = parse_entry(line.encode("utf-8", "surrogateescape"))
            except (Rejected, UnicodeEncodeError):
                item.place = Place(f"{path.name}: line {number}", problem="broken_annotations")
            else:
                item.place = Place.of(folder, entry.get("image"))
                item.original_id = entry["image"] if item.place else item.original_id
                describe(item, entry, settings)
            yield item
