"""Ingest: raw sources become shards of records (step 1 of the data flow).

Whatever can be wrong with an image or a box is found here and costs itself only, so that later steps and
training read what they find without a doubt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from PIL import Image

from granvit.boxes import Box, clip_box, exif_to_display
from granvit.data.records.fingerprints import perceptual_hash
from granvit.data.records.images import ImageFacts, inspect_image
from granvit.data.records.records import COUNT_COLUMNS, Record, Reject, Rejected, rejecting
from granvit.data.records.shards import Sample, ShardWriter
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.adapters.file_kinds import LOOKED_AT, is_image, judge
from granvit.data.sources.box_formats import BoxFits, in_pixels, is_cut, is_speck
from granvit.data.sources.catalogue import count_items, read_catalogue
from granvit.data.sources.items import Place, RawItem
from granvit.data.sources.places import ImagePlaces
from granvit.data.sources.rejects import CUT, Ledger
from granvit.data.sources.table import SourceSpec
from granvit.data.sources.turn_boxes import TurnBoxes
from granvit.files import remove_leftovers, replacing, write_csv
from granvit.progress import Progress


def ingest_shard(
    source: SourceSpec,
    shard: int,
    catalogue: str | Path,
    out_tar: str | Path,
    out_rejects: str | Path,
    out_counts: str | Path,
    *,
    max_pixels: int,
    max_reject_share: float,
    max_cut_share: float,
    log: str | Path | None = None,
) -> None:
    """Write shard ``shard`` of a catalogued source in the catalogue's order, one image in memory at a time.

    ``out_rejects`` lists what was left out (columns of ``rejects.REJECT_COLUMNS``), ``out_counts`` has the
    row ``ingest``; for images and for regions, in = out + rejected. ``max_pixels``: an image that states
    more is ``too_large`` and is not decoded. Raises GranvitError, with the report, where a larger share of
    the images or of the regions than ``max_reject_share`` is rejected (the log then holds the whole list), or
    where more boxes than ``max_cut_share`` do not fit their images as the row says that they are written.
    """
    name = f"{source.name}/{source.shard_names()[shard]}"
    progress = Progress(count_items(catalogue, shard), f"ingest {name}", "images", log)
    remove_leftovers(out_tar, out_rejects, out_counts)
    # The tar is renamed last: where it lies, the lists lie too.
    with replacing(out_tar) as tar, replacing(out_rejects) as rejects:
        with ShardWriter(tar) as writer, open(rejects, "w", encoding="utf-8", newline="") as file:
            ledger, several = Ledger(file, source.path), 0
            reading = Reading(source, max_pixels)
            for sample in reading.samples(shard, catalogue, ledger):
                writer.write(sample)
                several += "picture" in sample.record.provenance
                progress.update(ledger.images_in)
        if several:
            progress.say(f"{progress.label} | first of several pictures taken: {several} images")
        progress.say(f"{progress.label} | {ledger.summary()}")
        where = f"source {source.name!r}, shard {name}" + (f" ({source.origin})" if source.origin else "")
        advice = reading.fits.advice("box_format" in ADAPTERS[source.adapter].options)
        ledger.check(max_reject_share, where, rejects, log, sampled=source.shards > 1, advice=advice)
        if source.boxes == "given":  # others are replaced by an annotator's
            ledger.check_cuts(max_cut_share, where, sampled=source.shards > 1, advice=advice)
        if doubt := reading.turn_boxes.check(max_cut_share, where):
            progress.say(f"{progress.label} | {doubt}")
        write_csv(out_counts, COUNT_COLUMNS, [[source.name, "sequence", "ingest", *ledger.counts()]])


class Entries(Protocol):
    """What is told about each image: a Ledger, or who only looks."""

    def add(self, key: str, regions: int | None, rejects: list[Reject], path: str) -> None:
        """As ``Ledger.add``."""


class Reading:
    """Reads the images of one shard, all or those of the keys that are ``wanted``, and takes note of what
    speaks for or against the way it does so."""

    def __init__(self, source: SourceSpec, max_pixels: int, wanted: Callable[[str], bool] | None = None):
        self.source, self.max_pixels, self.wanted = source, max_pixels, wanted
        self.fits, self.turn_boxes = BoxFits(source.box_format), TurnBoxes(source.turn_boxes)

    def samples(self, shard: int, catalogue: str | Path, ledger: Entries) -> Iterator[Sample]:
        """The images that can be used; what became of the others is entered in ``ledger``."""
        with ImagePlaces(self.source.root) as places:
            for key, item, duplicate in read_catalogue(catalogue, shard):
                if self.wanted and not self.wanted(key):
                    continue
                try:
                    if duplicate:
                        raise Rejected("duplicate_id")
                    sample = self._sample(key, item, places)
                except Rejected as cause:
                    rejects = [*item.rejects, Reject("image", str(cause), len(item.regions))]
                    ledger.add(key, None, rejects, item.path)
                else:
                    ledger.add(key, len(sample.record.regions), item.rejects, item.path)
                    yield sample

    def _sample(self, key: str, item: RawItem, places: ImagePlaces) -> Sample:
        """Raises Rejected; a region or turn that is, goes into the item's rejects."""
        source = self.source
        if item.place is None:
            raise Rejected("no_image")
        image = places.read(item.place)
        facts, shown = _inspected(image, item.place, self.max_pixels)
        turned = _annotated_as_stored(item, facts)
        regions = []
        for region in item.regions:
            with rejecting(item.rejects, "region", 1):
                regions.append(
                    replace(region, box=self._box_as_shown(region.box, facts, turned, item.rejects))
                )
        turns = self.turn_boxes.read(item.conversations, facts.width, facts.height, item.rejects)
        if source.data_type == "instruction" and not turns:
            raise Rejected("no_conversation")
        provenance = {"adapter": source.adapter, "id": item.original_id, "file": item.place.file}
        if facts.several:
            provenance["picture"] = "first of several"
        item.rejects += [Reject("page", "later_page")] * facts.later_pages
        record = Record(
            key,
            source.name,
            source.data_type,
            facts.width,
            facts.height,
            None if source.captions == "none" else item.caption,
            regions,
            turns,
            provenance,
            perceptual_hash(shown),
            hashlib.sha256(image).hexdigest(),
        )
        return Sample(record, image, facts.extension)

    def _box_as_shown(self, box: Box, facts: ImageFacts, turned: bool, rejects: list[Reject]) -> list[float]:
        """The part of a region that is on the image as shown, to the hundredth of a pixel; what had to be cut
        by more than a rounding error is counted in ``rejects``, though the region stays.

        Corners that are swapped are not put in order: a source whose boxes have another layout than its row
        says (corners and sizes mixed up) would pass unseen, with boxes on the wrong things.
        """
        frame = facts.stored_size if turned else (facts.width, facts.height)
        self.fits.add(box, *frame)
        if box[2] < box[0] or box[3] < box[1]:
            raise Rejected("swapped_box")
        if box[2] == box[0] or box[3] == box[1]:
            raise Rejected("empty_box")
        box = in_pixels(box, self.source.box_format, *frame)
        if is_speck(box):
            raise Rejected("box_below_pixel")
        if turned:
            box = exif_to_display(box, *facts.stored_size, facts.orientation)
        if box[0] >= facts.width or box[1] >= facts.height or box[2] <= 0 or box[3] <= 0:
            raise Rejected("box_outside")
        cut = [round(value, 2) for value in clip_box(box, facts.width, facts.height)]
        if cut[2] == cut[0] or cut[3] == cut[1]:
            raise Rejected("empty_box")
        if is_cut(box, facts.width, facts.height):
            rejects.append(Reject("region", CUT))
        return cut


def _inspected(data: bytes, place: Place, max_pixels: int) -> tuple[ImageFacts, Image.Image]:
    """``inspect_image``; a file that annotations name, and whose format is not read here, is counted as
    adapters count those that they find: ``not_read_here.jp2``."""
    try:
        return inspect_image(data, max_pixels)
    except Rejected as cause:
        if str(cause) == "not_an_image" and not place.in_container and not is_image(place.file):
            kind, problem = judge(place.file, lambda: data[:LOOKED_AT])
            if kind == "unknown":
                raise Rejected(problem) from cause
        raise


def _annotated_as_stored(item: RawItem, facts: ImageFacts) -> bool:
    """Whether the boxes are on the image as stored, before EXIF turns it.

    A source that states the size of the image as stored, while EXIF turns it on its side, was annotated
    without applying EXIF, and its boxes are turned along. Any other difference in size means that the boxes
    are of another image.
    """
    if item.stated_size is None or item.stated_size == (facts.width, facts.height):
        return False
    if item.stated_size != facts.stored_size:
        raise Rejected("stated_size_differs")
    return True
