"""What a JSON object beside an image says about it: one object an image, field names given by options."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from granvit.data.records.records import Conversation, Region, Reject, Rejected, rejecting
from granvit.data.sources.box_formats import LISTED
from granvit.data.sources.items import RawItem, add_regions, box, score, size, text, turns
from granvit.data.sources.turn_boxes import OPTION as TURN_BOXES

OPTIONS = {
    "caption": "the field of the global caption (caption)",
    "regions": "the field of the list of regions, or object of lists; a dot goes into an object (regions)",
    "box": "the field of a region's box (box)",
    "box_format": f"{LISTED} (xyxy)",
    "text": "the field of a region's text (text)",
} | TURN_BOXES
LARGEST_ENTRY = 16 << 20  # bytes of one image's JSON: more is something else


def read_small(path: Path) -> bytes:
    """A file of annotations about one image. Raises Rejected ``broken_annotations`` for what is none, OSError
    where it cannot be read."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST_ENTRY:  # a pipe would be waited for
        raise Rejected("broken_annotations")
    return path.read_bytes()


def parse_entry(data: bytes) -> dict:
    """The JSON object in ``data``. Raises Rejected ``broken_annotations``."""
    entry = None
    if len(data) <= LARGEST_ENTRY:
        with suppress(ValueError, RecursionError):
            entry = json.loads(data.decode("utf-8-sig", "surrogateescape"))
    if not isinstance(entry, dict):
        raise Rejected("broken_annotations")
    return entry


def describe(
    item: RawItem, entry: dict, settings: dict[str, str], read: Callable[[object], Region] | None = None
) -> None:
    """Put into ``item`` what ``entry`` says: ``width``, ``height``, caption, regions, ``conversations``.

    ``read`` makes a region of what the entry has (``read_region``).
    """
    with rejecting(item.rejects, "caption"):
        item.caption = text(field(entry, settings.get("caption", "caption")))
    regions = _listed(field(entry, settings.get("regions", "regions")), settings, item.rejects)
    add_regions(item, regions, read or (lambda region: read_region(region, settings)))
    # Without regions a stated size is of no use, and downloaders state that of what they meant to write.
    item.stated_size = size(entry.get("width"), entry.get("height")) if item.regions else None
    if entry.get("conversations"):
        with rejecting(item.rejects, "conversation"):
            item.conversations = _conversations(entry["conversations"])


def _conversations(value: object) -> list[Conversation]:
    """Turns in LLaVA's form, or pairs of question and answer as this project's own shards hold them."""
    if isinstance(value, list) and all(isinstance(pair, dict) and "question" in pair for pair in value):
        pairs = [(text(pair["question"]), text(pair.get("answer"))) for pair in value]
        if not all(question and answer for question, answer in pairs):
            raise Rejected("bad_conversation")
        return [Conversation(pair["question"], pair["answer"]) for pair in value]
    return turns(value)


def field(entry: dict, path: str) -> object:
    """The value at ``a`` or ``a.b``; None where there is none."""
    value: object = entry
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _listed(regions: object, settings: dict[str, str], rejects: list[Reject]) -> object:
    """An object of lists (`bbox` of all, `category` of all), as `datasets` writes it, as a list of objects;
    anything else as it is. Where the lists differ in length nothing tells which texts the boxes have:
    ``unpaired_text``."""
    name = settings.get("box", "box")
    boxes = regions.get(name) if isinstance(regions, dict) else None
    if not isinstance(boxes, list):
        return regions
    lists = {other: values for other, values in regions.items() if isinstance(values, list)}
    if len(lists.get(settings.get("text", "text"), boxes)) != len(boxes):
        rejects += [Reject("region", "unpaired_text", 1)] * len(boxes)
        return []
    lists = {other: values for other, values in lists.items() if len(values) == len(boxes)}
    return [{other: values[number] for other, values in lists.items()} for number in range(len(boxes))]


def read_region(region: object, settings: dict[str, str]) -> Region:
    """The region that an object says, by the names in ``settings``. Raises Rejected."""
    region = region if isinstance(region, dict) else {}
    xyxy = box(field(region, settings.get("box", "box")), settings.get("box_format", "xyxy"))
    words = text(field(region, settings.get("text", "text"))) or ""
    return Region(xyxy, words, score(region.get("score")))
