"""Visual Genome as published: region descriptions and image data in two JSON files, images in two folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from granvit.data.records.records import Region
from granvit.data.sources.adapters.json_stream import read_array
from granvit.data.sources.items import Place, RawItem, add_regions, box, identifier, size, text

OPTIONS = {
    "annotations": "the JSON file of the regions (region_descriptions.json)",
    "image_data": "the JSON file of the images, where there is one (image_data.json)",
    "images": "the folders of images, separated by commas (VG_100K,VG_100K_2,images)",
}


def read_visual_genome(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``region_descriptions.json`` (``x, y, width, height, phrase``) and ``image_data.json``.

    Without the latter the images are those that have regions.
    """
    root = Path(root)
    folders = [name.strip() for name in settings.get("images", "VG_100K,VG_100K_2,images").split(",")]
    images = root / settings.get("image_data", "image_data.json")
    listed = images.exists()
    if listed:
        for number, image in enumerate(read_array(images)):
            yield _image(root, folders, image if isinstance(image, dict) else {}, number)
    entries = read_array(root / settings.get("annotations", "region_descriptions.json"))
    for number, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        image_id = _image_id(entry)
        item = RawItem(f"entry/{number}" if image_id is None else image_id, None, joins=listed)
        if not listed and image_id is not None:
            item.place = _place(root, folders, image_id)
        add_regions(item, entry.get("regions"), _region)
        yield item


def _image(root: Path, folders: list[str], image: dict, number: int) -> RawItem:
    image_id = _image_id(image)
    if image_id is None:
        return RawItem(f"image/{number}", Place("", problem="no_id"))
    stated = size(image.get("width"), image.get("height"))
    return RawItem(image_id, _place(root, folders, image_id), stated)


def _image_id(entry: dict) -> str | None:
    # The first release called it `id` in both files, later ones `image_id` in image_data.json.
    for name in ("image_id", "id"):
        found = identifier(entry.get(name))
        if found is not None:
            return found
    return None


def _place(root: Path, folders: list[str], image_id: str) -> Place:
    names = [f"{folder}/{image_id}.jpg" for folder in folders]
    # Unlike Path.exists, os.path.exists calls a name that is too long one that is not there.
    return Place(next((name for name in names if os.path.exists(root / name)), names[-1]))


def _region(region: object) -> Region:
    region = region if isinstance(region, dict) else {}
    xyxy = box([region.get(side) for side in ("x", "y", "width", "height")], "xywh")
    return Region(xyxy, text(region.get("phrase")) or "")
