"""Which adapter a folder is for: a file of each kind in it is looked at, and nothing is read through.

An adapter is named only by what its own format shows (a key, a column, a line's form), never by a file's name
alone; where two formats show, nothing here decides between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from granvit.data.sources.adapters.class_names import read_class_names
from granvit.data.sources.adapters.json_stream import read_arrays, read_entries
from granvit.data.sources.items import is_number
from granvit.data.sources.listing import Listing, beginning, first_line, stem_of
from granvit.errors import GranvitError

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_YOLO_LINE = re.compile(rf"\d+(?:\s+{_NUMBER}){{4,}}\s*")
_CORNERS = {4: re.compile(rf"(?:{_NUMBER},\s*){{8}}\S"), 2: re.compile(rf"(?:{_NUMBER},\s*){{4}}\S")}


@dataclass(frozen=True)
class Layout:
    """An adapter and its options, ``why`` it is meant, and ``doubts`` that a person has to look at."""

    adapter: str
    why: str
    options: dict[str, str] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


def find_layouts(listing: Listing) -> list[Layout]:
    """The layouts that show in a folder, images alone (`folder`) only where nothing else does; none in one
    without images. Tars and Parquet files beside loose images are two things, and so two layouts."""
    found = [layout for find in _FINDERS if (layout := find(listing))]
    holding = [layout for layout in found if layout.adapter in ("tars", "parquet")]
    if listing.image_count and len(found) == len(holding):
        found.append(_images_alone(listing))
    return found


def choose_layout(listing: Listing, adapter: str | None = None) -> Layout:
    """The one layout of a folder, or that of ``adapter``. Raises GranvitError for a folder that holds
    nothing, or several things.
    """
    layouts = find_layouts(listing)
    if adapter is not None:
        named = [layout for layout in layouts if layout.adapter == adapter]
        return named[0] if named else Layout(adapter, "you named it")
    if not layouts:
        others = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in _others(listing))
        raise GranvitError(
            f"{listing.root}: no images in it ({others or 'it is empty'}); give the folder that holds them, "
            "or tars or Parquet files of them"
        )
    if len(layouts) > 1:
        listed = "; ".join(f"{layout.adapter} ({layout.why})" for layout in layouts)
        raise GranvitError(
            f"{listing.root}: holds several things: {listed}; give the folder of one of them, or name it "
            f"with --adapter {layouts[0].adapter}"
        )
    return layouts[0]


def _others(listing: Listing) -> list[tuple[str, int]]:
    return (listing.counts + listing.unread).most_common(4)


def _images_alone(listing: Listing) -> Layout:
    doubts = []
    beside = [path for path in listing.of(".txt") if stem_of(path) in listing.stems]
    if beside:
        doubts.append(
            f"{len(beside)} texts such as {beside[0]} lie under their images' names, and `folder` reads "
            "none; in webdataset tars they would be captions"
        )
    default = listing.root / "images"
    outside = sum(n for place, n in listing.images.items() if PurePosixPath(place).parts[:1] != ("images",))
    options = {"images": "."} if default.is_dir() and outside else {}
    why = f"{listing.image_count} images, no annotations known here"
    return Layout("folder", why, options, tuple(doubts))


def _coco(listing: Listing) -> Layout | None:
    found = [(path, first) for path in listing.of(".json") if (first := _coco_image(listing.root / path))]
    if not found:
        return None
    found.sort(key=lambda entry: (entry[0] != "instances.json", "instances" not in entry[0], entry[0]))
    path, name = found[0]
    folder = _folder_of(listing, name)
    options = {} if path == "instances.json" else {"annotations": path}
    options |= {} if folder in (None, "images") else {"images": folder}
    doubts = [f"other files of that form, each a row of its own: {', '.join(p for p, _ in found[1:6])}"]
    doubts = doubts if len(found) > 1 else []
    if folder is None:
        doubts.append(f"{path} names {name}, which lies nowhere here; name its folder in `images`")
    return Layout("coco", f"{path} holds COCO's images and annotations", options, tuple(doubts))


def _coco_image(path: Path) -> str | None:
    """A file name that COCO annotations give; None where the file is none."""
    names = {"images", "annotations"}
    with suppress(GranvitError, OSError):
        boxes = False
        for kind, entry in read_arrays(path, names):
            if not isinstance(entry, dict):
                return None
            boxes = boxes or (kind == "annotations" and "image_id" in entry)
            if kind == "images":
                name = entry.get("file_name")
                return name if isinstance(name, str) and ("id" in entry or boxes) else None
    return None


def _folder_of(listing: Listing, name: str) -> str | None:
    """The folder below which an image of that name lies."""
    folders = ["images", *sorted(listing.images), "."]
    parents = [str(parent) for place in sorted(listing.images) for parent in PurePosixPath(place).parents]
    for folder in dict.fromkeys([*folders, *parents]):
        with suppress(OSError, ValueError):
            if (listing.root / folder / name).is_file():
                return folder
    return None


def _llava(listing: Listing) -> Layout | None:
    for path in listing.of(".json", ".jsonl"):
        entry = _first_entry(listing.root / path)
        if entry and isinstance(entry.get("conversations"), list) and stem_of(path) not in listing.stems:
            options = {} if path == "conversations.json" else {"annotations": path}
            name = next(iter(_names(entry.get("image"))), None)
            folder = _folder_of(listing, name) if name else None
            options |= {} if folder in (None, "images") else {"images": folder}
            return Layout("llava", f"{path} holds LLaVA's conversations", options)
    return None


def _names(value: object) -> Iterator[str]:
    yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def _first_entry(path: Path) -> dict | None:
    with suppress(GranvitError, OSError):
        for entry in islice(read_entries(path), 1):
            return entry if isinstance(entry, dict) else None
    return None


def _visual_genome(listing: Listing) -> Layout | None:
    needed = {"region_descriptions.json", "image_data.json"}
    if needed <= set(listing.of(".json")):
        return Layout("visual_genome", "region_descriptions.json and image_data.json are there")
    return None


def _umg(listing: Listing) -> Layout | None:
    """A JSON object of regions under each image's name."""
    for path in listing.of(".json"):
        if stem_of(path) in listing.stems and (entry := _object(listing.root / path)) is not None:
            options, doubts = _umg_fields(entry)
            return Layout("umg", f"JSON files such as {path} lie under their images' names", options, doubts)
    return None


def _umg_fields(entry: dict) -> tuple[dict[str, str], tuple[str, ...]]:
    """The names of an entry's fields, where they are not those of the defaults."""
    for name, value in entry.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict):
            boxes = [key for key, box in first.items() if _is_box(box)]
            texts = [key for key, text in first.items() if isinstance(text, str)]
            if boxes:
                found = {"regions": name, "box": boxes[0], "text": (texts or ["text"])[0]}
                options = {key: value for key, value in found.items() if value != _UMG_NAMES[key]}
                doubt = f"fields guessed from one file: {', '.join(f'{k}={v}' for k, v in found.items())}"
                return options, (doubt,) if options else ()
    return {}, (f"no list of boxes in it; its fields are {', '.join(list(entry)[:8]) or 'none'}",)


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


_UMG_NAMES = {"regions": "regions", "box": "box", "text": "text"}


def _object(path: Path) -> dict | None:
    with suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        return value if isinstance(value, dict) else None
    return None


def _metadata_jsonl(listing: Listing) -> Layout | None:
    paths = [p for p in listing.of(".jsonl", ".csv") if PurePosixPath(p).stem == "metadata"]
    return Layout("metadata_jsonl", f"{paths[0]} is there") if paths else None


def _paddle_labels(listing: Listing) -> Layout | None:
    for path in listing.of(".txt"):
        _, tab, labels = first_line(listing.root / path).partition("\t")
        if tab and labels.lstrip().startswith("[") and '"transcription"' in labels:
            options = {} if path == "Label.txt" else {"annotations": path}
            folder = str(PurePosixPath(path).parent)
            options |= {} if folder == "." else {"images": folder}
            return Layout("paddle_labels", f"{path} holds PPOCRLabel's lines", options)
    return None


def _yolo(listing: Listing) -> Layout | None:
    for path in listing.of(".txt"):
        image = "/".join("images" if part == "labels" else part for part in stem_of(path).split("/"))
        if image in listing.stems and _YOLO_LINE.fullmatch(first_line(listing.root / path)):
            options, doubts = {}, ()
            if not any((listing.root / name).is_file() for name in _YOLO_CLASSES):
                named = [p for p in listing.of(".yaml", ".yml", ".txt") if _names_classes(listing.root / p)]
                options = {"classes": named[0]} if named else {}
                doubt = "no file names the classes; write one name a line into classes.txt"
                doubts = () if named else (doubt,)
            return Layout("yolo", f"{path} holds numbers of classes and boxes", options, doubts)
    return None


_YOLO_CLASSES = ("data.yaml", "classes.txt", "labels/classes.txt")


def _names_classes(path: Path) -> bool:
    if path.suffix == ".txt" and "class" not in path.stem and "names" not in path.stem:
        return False
    with suppress(GranvitError, OSError):
        return bool(read_class_names(path))
    return False


def _voc(listing: Listing) -> Layout | None:
    for path in listing.of(".xml"):
        if "<annotation" in beginning(listing.root / path):
            annotations = str(PurePosixPath(path).parent)
            name = PurePosixPath(path).stem
            places = [str(PurePosixPath(stem).parent) for stem in sorted(listing.stems)
                      if PurePosixPath(stem).name == name]  # fmt: skip
            options = {} if annotations == "Annotations" else {"annotations": annotations}
            options |= {"images": places[0]} if places and places[0] != "JPEGImages" else {}
            doubts = () if places else (f"no image is called like {path}; name their folder in `images`",)
            return Layout("voc", f"{path} is an annotation in VOC's form", options, doubts)
    return None


def _line_boxes(listing: Listing) -> Layout | None:
    for path in listing.of(".csv", ".txt"):
        boxes = str(PurePosixPath(path).parent)
        line = first_line(listing.root / path)
        points = next((points for points, form in _CORNERS.items() if form.match(line)), None)
        if points is None or boxes == ".":
            continue
        stem = PurePosixPath(path).stem
        places = {PurePosixPath(one).name: str(PurePosixPath(one).parent) for one in sorted(listing.stems)}
        before, name = next((("", stem[at:]) for at in range(len(stem)) if stem[at:] in places), ("", stem))
        before = stem.removesuffix(name)
        options = {} if boxes == "box" else {"boxes": boxes}
        if name not in places:  # a table that is about something else
            continue
        options |= {"images": places[name]} if places[name] != "img" else {}
        options |= {} if points == 4 else {"points": "2"}
        options |= {"box_names": f"{before}*"} if before else {}
        return Layout("line_boxes", f"{path} holds corners and a text in each line", options)
    return None


def _tars(listing: Listing) -> Layout | None:
    number = listing.counts[".tar"]
    return Layout("tars", f"{number} tars such as {listing.of('.tar')[0]}") if number else None


def _parquet(listing: Listing) -> Layout | None:
    """Not the indexes that lie beside tars."""
    tars = {stem_of(path) for path in listing.of(".tar")}
    paths = [path for path in listing.of(".parquet") if stem_of(path) not in tars]
    return Layout("parquet", f"{len(paths)} Parquet files such as {paths[0]}") if paths else None


_FINDERS: tuple[Callable[[Listing], Layout | None], ...] = (
    _coco, _llava, _visual_genome, _umg, _metadata_jsonl, _paddle_labels, _yolo, _voc, _line_boxes, _tars,
    _parquet,
)  # fmt: skip
