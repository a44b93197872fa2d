"""LLaVA's conversation format: questions and answers of one JSON file beside a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from granvit.data.records.records import rejecting
from granvit.data.sources.adapters.json_stream import read_entries
from granvit.data.sources.items import Place, RawItem, turns
from granvit.data.sources.turn_boxes import OPTION as TURN_BOXES

OPTIONS = {
    "annotations": "the file of JSON, or of JSON lines (conversations.json)",
    "images": "the folder of images (images)",
} | TURN_BOXES


def read_llava(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``conversations.json`` in LLaVA's format beside ``images/``: one array, or one object a line.

    Published files hold several entries about one image, under one id or several: the id here is the image's
    file, so that all its questions meet in one record. Entries without an image, or about several
    (``several_images``), cannot be used and are rejected one by one.
    """
    path = Path(root) / settings.get("annotations", "conversations.json")
    folder = settings.get("images", "images")
    for number, entry in enumerate(read_entries(path)):
        entry = entry if isinstance(entry, dict) else {}
        image = entry.get("image")
        if isinstance(image, list) and len(image) == 1:
            image = image[0]
        place = Place.of(folder, image)
        if place is None:
            problem = Place("", problem="several_images") if isinstance(image, list) and image else None
            yield RawItem(f"entry/{number}/{entry.get('id', number)}", problem)
            continue
        item = RawItem(image, place, joins=True)
        with rejecting(item.rejects, "conversation"):
            item.conversations = turns(entry.get("conversations"))
        yield item
