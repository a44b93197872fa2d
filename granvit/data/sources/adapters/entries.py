"""What a JSON object beside an image says about it: one object an image, field names given by options."""

from __future__ import annotations

import json
from contextlib import suppress

from granvit.data.records.records import Conversation, Region, Rejected, rejecting
from granvit.data.sources.box_formats import LISTED
from granvit.data.sources.items import RawItem, add_regions, box, score, size, text, turns
from granvit.data.sources.turn_boxes import OPTION as TURN_BOXES

OPTIONS = {
    "caption": "the field of the global caption (caption)",
    "regions": "the field of the list of regions; a dot goes into an object (regions)",
    "box": "the field of a region's box (box)",
    "box_format": f"{LISTED} (xyxy)",
    "text": "the field of a region's text (text)",
} | TURN_BOXES
LARGEST_ENTRY = 16 << 20  # bytes of one image's JSON: more is something else


def parse_entry(data: bytes) -> dict:
    """The JSON object in ``data``. Raises Rejected ``broken_annotations``."""
    entry = None
    if len(data) <= LARGEST_ENTRY:
        with suppress(ValueError, RecursionError):
            entry = json.loads(data.decode("utf-8-sig", "surrogateescape"))
    if not isinstance(entry, dict):
        raise Rejected("broken_annotations")
    return entry


def describe(item: RawItem, entry: dict, settings: dict[str, str]) -> None:
    """Put into ``item`` what ``entry`` says: ``width``, ``height``, caption, regions, ``conversations``."""
    with rejecting(item.rejects, "caption"):
        item.caption = text(field(entry, settings.get("caption", "caption")))
    regions = field(entry, settings.get("regions", "regions"))
    add_regions(item, regions, lambda region: _region(region, settings))
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


def _region(region: object, settings: dict[str, str]) -> Region:
    region = region if isinstance(region, dict) else {}
    xyxy = box(field(region, settings.get("box", "box")), settings.get("box_format", "xyxy"))
    words = text(field(region, settings.get("text", "text"))) or ""
    return Region(xyxy, words, score(region.get("score")))
