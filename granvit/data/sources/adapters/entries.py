"""What a JSON object beside an image says about it: one object an image, field names given by options."""

from __future__ import annotations

import json
from collections.abc import Iterator

from granvit.data.records.accounts import Reject
from granvit.data.records.records import Conversation, Region
from granvit.data.sources.adapters.values import Broken, box, score, size, text, turns
from granvit.data.sources.items import RawItem

OPTIONS = {
    "caption": "the field of the global caption (caption)",
    "regions": "the field of the list of regions; a dot goes into an object (regions)",
    "box": "the field of a region's box (box)",
    "box_format": "xyxy or xywh, in pixels (xyxy)",
    "text": "the field of a region's text (text)",
}
BOX_FORMATS = ("xyxy", "xywh")
LARGEST_ENTRY = 16 << 20  # bytes of one image's JSON: more is something else


def parse_entry(data: bytes) -> dict:
    """The JSON object in ``data``. Raises Broken ``broken_annotations``."""
    if len(data) > LARGEST_ENTRY:
        raise Broken("broken_annotations")
    try:
        entry = json.loads(data.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise Broken("broken_annotations") from error
    if not isinstance(entry, dict):
        raise Broken("broken_annotations")
    return entry


def describe(item: RawItem, entry: dict, settings: dict[str, str]) -> None:
    """Put into ``item`` what ``entry`` says: ``width``, ``height``, caption, regions, ``conversations``."""
    try:
        item.caption = text(field(entry, settings.get("caption", "caption")))
    except Broken as cause:
        item.rejects.append(Reject("caption", str(cause)))
    regions = field(entry, settings.get("regions", "regions"))
    if isinstance(regions, list):
        for region, reject in map(lambda region: _region(region, settings), regions):
            item.regions += [region] if region else []
            item.rejects += [reject] if reject else []
        # Without regions a stated size is of no use, and downloaders state that of what they meant to write.
        item.stated_size = size(entry.get("width"), entry.get("height")) if item.regions else None
    elif regions is not None:
        item.rejects.append(Reject("region", "bad_regions", 1))
    if entry.get("conversations"):
        try:
            item.conversations = _conversations(entry["conversations"])
        except Broken as cause:
            item.rejects.append(Reject("conversation", str(cause)))


def _conversations(value: object) -> list[Conversation]:
    """Turns in LLaVA's form, or pairs of question and answer as this project's own shards hold them."""
    if isinstance(value, list) and all(isinstance(pair, dict) and "question" in pair for pair in value):
        pairs = [(text(pair["question"]), text(pair.get("answer"))) for pair in value]
        if not all(question and answer for question, answer in pairs):
            raise Broken("bad_conversation")
        return [Conversation(pair["question"], pair["answer"]) for pair in value]
    return turns(value)


def field(entry: dict, path: str) -> object:
    """The value at ``a`` or ``a.b``; None where there is none."""
    value: object = entry
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _region(region: object, settings: dict[str, str]) -> tuple[Region | None, Reject | None]:
    region = region if isinstance(region, dict) else {}
    try:
        xyxy = box(field(region, settings.get("box", "box")), settings.get("box_format", "xyxy"))
        words = text(field(region, settings.get("text", "text"))) or ""
    except Broken as cause:
        return None, Reject("region", str(cause), 1)
    return Region(xyxy, words, score(region.get("score"))), None


def paired_regions(boxes: object, texts: object, form: str) -> Iterator[Region | Reject]:
    """Regions of a list of boxes and the list of their texts, as columns hold them."""
    if boxes is None:
        return
    if not isinstance(boxes, list):
        yield Reject("region", "bad_regions", 1)
        return
    paired = isinstance(texts, list) and len(texts) == len(boxes)
    for number, value in enumerate(boxes):
        try:
            if texts is not None and not paired:
                raise Broken("unpaired_text")
            yield Region(box(value, form), (text(texts[number]) if paired else None) or "")
        except Broken as cause:
            yield Reject("region", str(cause), 1)
