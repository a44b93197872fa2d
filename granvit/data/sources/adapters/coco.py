"""COCO's instances format: boxes of one JSON file beside a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from granvit.data.records.records import Region, Rejected, rejecting
from granvit.data.sources.adapters.json_stream import read_arrays
from granvit.data.sources.box_formats import LISTED
from granvit.data.sources.items import Place, RawItem, add_regions, box, identifier, score, size, text
from granvit.errors import GranvitError

OPTIONS = {
    "annotations": "the JSON file (instances.json)",
    "images": "the folder of images (images)",
    "box_format": f"{LISTED} (xywh)",
}


def read_coco(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``instances.json`` in COCO's format beside ``images/``.

    An annotation's ``caption`` is the region's text, otherwise its category's name; an image's ``caption`` is
    the global one. Crowd annotations (one box around many objects) are left out.
    """
    path = Path(root) / settings.get("annotations", "instances.json")
    folder, form = settings.get("images", "images"), settings.get("box_format", "xywh")
    # COCO's own files name the categories last: they are read first, in a pass of their own.
    categories = {
        identifier(category.get("id")): category.get("name")
        for _, category in read_arrays(path, {"categories"})
        if isinstance(category, dict)
    }
    seen = set()
    for number, (kind, entry) in enumerate(read_arrays(path, {"images", "annotations"})):
        seen.add(kind)
        if kind == "images":
            yield _image(entry if isinstance(entry, dict) else {}, folder, number)
        else:
            yield _annotation(entry if isinstance(entry, dict) else {}, categories, number, form)
    if "images" not in seen:
        raise GranvitError(f"{path}: key 'images' must hold a list of images; is this a COCO instances file?")


def _image(image: dict, folder: str, number: int) -> RawItem:
    image_id = identifier(image.get("id"))
    if image_id is None:
        return RawItem(f"image/{number}", Place("", problem="no_id"))
    item = RawItem(image_id, Place.of(folder, image.get("file_name")))
    item.stated_size = size(image.get("width"), image.get("height"))
    with rejecting(item.rejects, "caption"):
        item.caption = text(image.get("caption"))
    return item


def _annotation(annotation: dict, categories: dict, number: int, form: str) -> RawItem:
    image_id = identifier(annotation.get("image_id"))
    # Without an image's id it belongs nowhere, and ends as a rejected image that takes its region along.
    item = RawItem(f"annotation/{number}" if image_id is None else image_id, None, joins=True)
    add_regions(item, [annotation], lambda one: _region(one, categories, form))
    return item


def _region(annotation: dict, categories: dict[str | None, object], form: str) -> Region:
    if annotation.get("iscrowd"):
        raise Rejected("crowd_annotation")
    xyxy = box(annotation.get("bbox"), form)
    category = identifier(annotation.get("category_id"))
    name = None if category is None else categories.get(category)
    words = text(annotation.get("caption")) or text(name) or ""
    return Region(xyxy, words, score(annotation.get("score")))
