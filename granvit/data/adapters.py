"""What raw source folders look like on disk, one reader a layout.

A reader yields one ``RawItem`` an image, with boxes and texts as the source states them; nothing is opened or
judged here but the annotation file. What is wrong with a single annotation travels along in ``rejects``, so
that it costs that annotation only.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from granvit.data.records import Conversation, Region
from granvit.errors import GranvitError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


@dataclass
class RawItem:
    """One image of a source: its id there, its file relative to ``images/``, and what the source says about
    it.

    ``stated_size`` is the ``(width, height)`` the boxes refer to, where the source gives it; ``rejects``
    holds one cause for each annotation that was dropped.
    """

    original_id: str
    file_name: str
    stated_size: tuple[int, int] | None = None
    caption: str | None = None
    regions: list[Region] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)


def read_coco(root: Path) -> Iterator[RawItem]:
    """``instances.json`` in COCO's format beside ``images/``.

    An annotation's ``caption`` is the region's text, otherwise its category's name; an image's ``caption`` is
    the global one. Crowd annotations (one box around many objects) are left out.
    """
    path = root / "instances.json"
    content = _load_json(path, dict)
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            raise GranvitError(f"{path}: key {key!r} must hold a list; is this a COCO instances file?")
    categories = {c.get("id"): c.get("name") for c in content.get("categories", []) if isinstance(c, dict)}
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        if isinstance(annotation, dict):
            annotations[str(annotation.get("image_id"))].append(annotation)
    for image in content["images"]:
        image = image if isinstance(image, dict) else {}
        item = RawItem(str(image.get("id", "")), image.get("file_name") or "", _stated_size(image))
        item.caption = _text(image.get("caption"))
        for annotation in annotations[item.original_id]:
            _add_coco_region(item, annotation, categories)
        yield item


def _add_coco_region(item: RawItem, annotation: dict, categories: dict) -> None:
    box = annotation.get("bbox")
    text = _text(annotation.get("caption")) or _text(categories.get(annotation.get("category_id")))
    if annotation.get("iscrowd"):
        item.rejects.append("crowd_annotation")
    elif not (isinstance(box, list) and len(box) == 4 and all(_is_number(value) for value in box)):
        item.rejects.append("bad_box")
    elif text is None:
        item.rejects.append("no_text")
    else:
        x, y, w, h = box
        score = annotation.get("score")
        item.regions.append(Region([x, y, x + w, y + h], text, float(score) if _is_number(score) else None))


def read_folder(root: Path) -> Iterator[RawItem]:
    """``images/`` only, at any depth and through links: boxes and text come from the annotator."""
    images = root / "images"
    for folder, _, names in os.walk(images, followlinks=True):
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                name = (Path(folder) / name).relative_to(images).as_posix()
                yield RawItem(name, name)


def read_llava(root: Path) -> Iterator[RawItem]:
    """``conversations.json`` in LLaVA's format beside ``images/``.

    Published files hold several entries about one image, under one id or several: the id here is the image's
    file, so that all its questions meet in one record. Entries without an image cannot be used and are
    rejected one by one.
    """
    path = root / "conversations.json"
    by_image: dict[str, RawItem] = {}
    for number, entry in enumerate(_load_json(path, list)):
        file_name = entry.get("image") if isinstance(entry, dict) else None
        if not isinstance(file_name, str) or not file_name:
            entry_id = entry.get("id", number) if isinstance(entry, dict) else number
            yield RawItem(f"entry/{number}/{entry_id}", "")
            continue
        item = by_image.setdefault(file_name, RawItem(file_name, file_name))
        turns = _read_turns(entry.get("conversations"))
        if turns is None:
            item.rejects.append("bad_conversation")
        else:
            item.conversations.extend(turns)
    yield from by_image.values()


def _read_turns(turns: object) -> list[Conversation] | None:
    """Questions and answers of alternating human and gpt turns, without the ``<image>`` mark; None if they
    are not.
    """
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        return None
    conversations = []
    for human, gpt in zip(turns[::2], turns[1::2], strict=True):
        if not (isinstance(human, dict) and isinstance(gpt, dict)):
            return None
        if (human.get("from"), gpt.get("from")) != ("human", "gpt"):
            return None
        question, answer = human.get("value"), _text(gpt.get("value"))
        if not _text(question) or answer is None:
            return None
        # Nothing but the mark and its line break goes: benchmarks' prompts end in blanks that training has
        # to see.
        question = re.sub(r"<image>\n?|\n<image>", "", question)
        if not question.strip():
            return None
        conversations.append(Conversation(question, answer))
    return conversations


ADAPTERS: dict[str, Callable[[Path], Iterator[RawItem]]] = {
    "coco": read_coco,
    "folder": read_folder,
    "llava": read_llava,
}


def _load_json(path: Path, expected: type) -> dict | list:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GranvitError(f"{path}: missing; put the source's annotations there (docs/data.md)") from error
    except ValueError as error:
        raise GranvitError(f"{path}: not JSON ({error}); download or export it again") from error
    if not isinstance(content, expected):
        raise GranvitError(
            f"{path}: holds a {type(content).__name__}, expected a {expected.__name__} (docs/data.md)"
        )
    return content


def _stated_size(image: dict) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if _is_number(width) and _is_number(height) else None


def _text(value: object) -> str | None:
    return (value.strip() or None) if isinstance(value, str) else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
