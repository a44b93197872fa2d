"""What is known to be true of a source's images: annotations that people made, read by the adapters.

They measure the annotators (``annotation_audit.csv``) and are never trained on. They may cover a few of the
source's images only; the others are not counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from granvit.boxes import clip_box
from granvit.data.records.records import Record, make_key, readable_key
from granvit.data.sources.box_formats import in_pixels
from granvit.data.sources.catalogue import catalogue_source, read_catalogue
from granvit.data.sources.items import RawItem
from granvit.data.sources.table import SourceSpec
from granvit.errors import GranvitError

# What published files leave undecided on purpose: no one can say whether an annotator should have found it.
_UNDECIDED = {"crowd_annotation", "difficult_object", "illegible_text"}

# Whose files name each image, so that one without a box has none; the others list what lies beside, labelled
# or not.
_NAMING = {"coco", "paddle_labels", "visual_genome"}


@dataclass(frozen=True)
class TrueRegion:
    """A box ``[x1, y1, x2, y2]`` in pixels of the image as shown, and what it says ("" where nothing is
    known). ``parts``: the words of a line, each with its box, where they are known."""

    box: tuple[float, ...]
    text: str
    parts: tuple[TrueRegion, ...] = ()


@dataclass(frozen=True)
class Truth:
    """All that is known of one image: its caption, if any, and every region that it has."""

    regions: tuple[TrueRegion, ...]
    caption: str | None = None


TruthOf = Callable[[Record], Truth | None]  # None: nothing is known of the image


def read_truth(source: SourceSpec) -> TruthOf:
    """The truth that a source's row names, for each record of the source.

    Images are told by their file below the row's path; inside tars and Parquet files by their id. Raises
    GranvitError, naming the row, for a truth that is absent, empty or broken, and later, for a record whose
    truth cannot be used.
    """
    where, truth = f"{source.row or source.name}: truth", source.truth_source
    items = {
        _place_of(item, truth.name): item
        for item in _items(truth, where)
        if item.regions or item.caption or item.rejects or truth.adapter in _NAMING
    }
    for item in items.values():
        for reject in item.rejects:
            if reject.cause not in _UNDECIDED:
                raise GranvitError(
                    f"{where}: {item.path} below {truth.path}: a {reject.what} cannot be used: "
                    f"{reject.cause} (docs/data.md); correct it there"
                )
    if not any(item.regions or item.caption for item in items.values()):
        raise GranvitError(
            f"{where}: adapter {truth.adapter!r} found neither a box nor a caption in {truth.path}; name the "
            "file or the fields by the adapter's options, as in `adapter=coco;annotations=truth.json`"
        )

    def truth_of(record: Record) -> Truth | None:
        item = items.get(record.provenance.get("file", "")) or items.get(record.key)
        return _on_image(item, record, truth, where) if item else None

    return truth_of


def _items(truth: SourceSpec, where: str) -> list[RawItem]:
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "truth.sqlite"
        try:
            catalogue_source(truth, catalogue)
        except GranvitError as error:
            raise GranvitError(f"{where}: {error}") from error
        return [item for _, item, duplicate in read_catalogue(catalogue, 0) if not duplicate]


def _place_of(item: RawItem, source: str) -> str:
    loose = item.place is not None and not item.place.in_container
    return item.place.file if loose else make_key(source, item.original_id)


def _on_image(item: RawItem, record: Record, truth: SourceSpec, where: str) -> Truth:
    size = record.width, record.height
    if item.stated_size not in (None, size):
        stated, shown = ("x".join(map(str, numbers)) for numbers in (item.stated_size, size))
        raise GranvitError(
            f"{where}: {item.path} is of {stated} pixels there, and of {shown} as shown; state boxes on the "
            "image as shown (turned as EXIF says)"
        )
    regions = []
    for region in item.regions:
        box = clip_box(in_pixels(region.box, truth.box_format, *size), *size)
        if box[2] <= box[0] or box[3] <= box[1]:
            raise GranvitError(
                f"{where}: {readable_key(record.key)}: the box {list(region.box)} has no area on an image of "
                f"{size[0]}x{size[1]} pixels when read as {truth.box_format}; correct it, or set box_format"
            )
        regions.append(TrueRegion(tuple(box), region.text or ""))
    return Truth(tuple(regions), item.caption)
