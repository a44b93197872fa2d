"""Ingest: raw source folders become shards of records (step 1 of the data flow)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from granvit.boxes import clip_box, exif_to_display
from granvit.data.adapters import ADAPTERS, RawItem
from granvit.data.files import replacing, write_csv
from granvit.data.images import ImageFacts, UnreadableImage, inspect_image
from granvit.data.records import Record, Region, hash_key, make_key
from granvit.data.shards import Sample, ShardWriter
from granvit.data.sources import SourceSpec
from granvit.errors import GranvitError


class Rejected(Exception):
    """An image that is left out; the message is the cause."""


def ingest_shard(source: SourceSpec, shard: int, out_tar: str | Path, out_rejects: str | Path) -> None:
    """Write shard ``shard`` of ``source`` and the list of what was left out of it (columns ``key, cause``).

    The shard takes the images with ``sha256(key) % source.shards == shard``, sorted by key. One bad image or
    annotation costs itself only: a row in ``out_rejects`` each.
    """
    root = Path(source.path)
    if not root.is_dir():
        raise GranvitError(
            f"source {source.name!r}: its folder {root} does not exist; put the raw data there or change the "
            "row's `path` in the sources file (layouts: docs/data.md)"
        )
    rejects: list[tuple[str, str]] = []
    with replacing(out_tar) as temporary, ShardWriter(temporary) as writer:
        for key, item, duplicate in _items_of_shard(source, root, shard):
            rejects.extend((key, cause) for cause in item.rejects)
            try:
                if duplicate:
                    raise Rejected("duplicate_id")
                sample = _read_sample(source, root, key, item, rejects)
            except Rejected as cause:
                rejects.append((key, str(cause)))
            else:
                writer.write(sample)
    write_csv(out_rejects, ["key", "cause"], rejects)


def _items_of_shard(source: SourceSpec, root: Path, shard: int) -> Iterator[tuple[str, RawItem, bool]]:
    """``(key, item, whether the key was there before)`` of one shard, sorted by key, then by the source's
    order.
    """
    mine, empty = [], True
    for item in ADAPTERS[source.adapter](root):
        empty = False
        key = make_key(source.name, item.original_id)
        if hash_key(key) % source.shards == shard:
            mine.append((key, item))
    if empty:
        raise GranvitError(
            f"source {source.name!r}: no images found in {root} with adapter {source.adapter!r}; "
            "put them under images/ there or correct the row's `path` or `adapter` (layouts: docs/data.md)"
        )
    mine.sort(key=lambda pair: pair[0])
    previous = None
    for key, item in mine:
        yield key, item, key == previous
        previous = key


def _read_sample(
    source: SourceSpec, root: Path, key: str, item: RawItem, rejects: list[tuple[str, str]]
) -> Sample:
    image = _read_image(root / "images", item.file_name)
    try:
        facts = inspect_image(image)
    except UnreadableImage as cause:
        raise Rejected(str(cause)) from cause
    regions = []
    for region in _in_display_frame(item, facts):
        box = clip_box(region.box, facts.width, facts.height)
        if box[2] > box[0] and box[3] > box[1]:
            regions.append(Region([round(value, 2) for value in box], region.text, region.score))
        else:
            rejects.append((key, "empty_box"))
    if source.adapter == "llava" and not item.conversations:
        raise Rejected("no_conversation")
    record = Record(
        key,
        source.name,
        source.data_type,
        facts.width,
        facts.height,
        item.caption,
        regions,
        item.conversations,
        provenance={"adapter": source.adapter, "id": item.original_id, "file": item.file_name},
    )
    return Sample(record, image, facts.extension)


def _read_image(images: Path, file_name: str) -> bytes:
    if not file_name:
        raise Rejected("no_image")
    # Judged by the name alone: links from images/ to wherever the files really lie are welcome.
    if os.path.isabs(file_name) or os.path.normpath(file_name).split(os.sep)[0] == "..":
        raise Rejected("path_outside_source")
    try:
        return (images / file_name).read_bytes()
    except FileNotFoundError as error:
        raise Rejected("missing_image") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise Rejected("unreadable_file") from error


def _in_display_frame(item: RawItem, facts: ImageFacts) -> list[Region]:
    """Regions on the image as shown.

    A source that states the size of the image as stored, while EXIF turns it on its side, was annotated
    without applying EXIF, and its boxes are turned along. Any other difference in size means that the boxes
    are of another image.
    """
    shown = (facts.width, facts.height)
    if item.stated_size is None or item.stated_size == shown:
        return item.regions
    if item.stated_size != facts.stored_size:
        raise Rejected("stated_size_differs")
    return [
        Region(exif_to_display(region.box, *facts.stored_size, facts.orientation), region.text, region.score)
        for region in item.regions
    ]
