"""A row of a sources file for a folder: what lies there, read once through its adapter, and guesses."""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Rejected, hash_key
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.box_formats import BoxFits
from granvit.data.sources.catalogue import catalogue_source, read_catalogue
from granvit.data.sources.items import RawItem, is_unicode
from granvit.data.sources.layouts import Layout, choose_layout
from granvit.data.sources.listing import Listing, list_folder
from granvit.data.sources.places import ImagePlaces
from granvit.data.sources.table import SourceSpec, read_sources
from granvit.errors import GranvitError
from granvit.files import replacing

COLUMNS = [column.name for column in fields(SourceSpec) if column.name != "row"]
_WRITTEN = COLUMNS[: COLUMNS.index("options") + 1]
_LOOKED_AT = 24  # images whose pixels say whether they are photographs or pages
_A_SHARD = 20_000  # images
# A page: most of it within so many levels of its commonest one, which is light, and little colour in it
_PAPER_LEVEL, _PAPER_WIDTH, _PAPER_SHARE, _COLOUR = 150, 40, 0.5, 48
_CLEARLY = 0.1  # of the boxes: by how many more another format has to fit
_MEMORY = 64 << 20  # pixels


@dataclass
class Proposal:
    """A row, and lines for people: ``facts`` that were counted, ``doubts`` that they have to decide."""

    source: SourceSpec
    facts: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        return [str(getattr(self.source, column)) for column in _WRITTEN]

    def lines(self) -> list[str]:
        """The comments and the row, as they stand in a sources file."""
        notes = [*self.facts, *(f"undecided: {doubt}" for doubt in self.doubts)]
        shown = (" ".join(note.encode("utf-8", "backslashreplace").decode().split()) for note in notes)
        return [*(f"# {note}" for note in shown), "\t".join(self.cells)]


@dataclass
class _Counts:
    """What an adapter finds in a folder."""

    images: int = 0
    captions: int = 0
    boxes: int = 0
    texts: int = 0
    turns: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, item: RawItem) -> None:
        self.images += 1
        self.captions += item.caption is not None
        self.boxes += len(item.regions)
        self.texts += sum(bool(region.text) for region in item.regions)
        self.turns += len(item.conversations)
        self.left_out.update(reject.cause for reject in item.rejects)
        if item.place is None or item.place.problem:
            self.left_out[item.place.problem if item.place else "no_image"] += 1


def propose(folder: str | Path, name: str | None = None, adapter: str | None = None) -> Proposal:
    """A row for what lies in a folder. ``name``: of the source (the folder's otherwise); ``adapter``: where
    the folder holds several things.

    Raises GranvitError for a folder that is missing, empty, or holds several things, and where the adapter
    cannot read it.
    """
    root = Path(folder)
    listing = list_folder(root)
    layout = choose_layout(listing, adapter)
    source = _bare(root, name, layout)
    counts, looked_at, fits = _read(source)
    pages = sum(map(_is_page, looked_at))
    proposal = Proposal(_decided(source, counts, pages > len(looked_at) / 2))
    proposal.facts = _facts(listing, layout, counts, pages, len(looked_at))
    proposal.doubts = [*layout.doubts, *_doubts(proposal.source, counts, pages / max(1, len(looked_at)))]
    _choose_format(proposal, fits)
    return proposal


def write_rows(path: str | Path, proposal: Proposal, force: bool = False, add: bool = False) -> None:
    """Write a sources file of one row; ``add``: behind the rows that are there; ``force``: in the place of
    the file that is there. Raises GranvitError for a file that is there without either, and where the rows
    do not go together; then nothing is changed."""
    path = Path(path)
    header, before = "\t".join(_WRITTEN), ""
    if path.exists() and add:
        before = path.read_text(encoding="utf-8-sig")
        named = next((line for line in before.splitlines() if line and not line.startswith("#")), header)
        columns = named.split("\t")
        if missing := [c for c in _WRITTEN if c not in columns and getattr(proposal.source, c)]:
            raise GranvitError(
                f"{path}: has no column {missing[0]!r}, which the row needs; add it, or write to another file"
            )
        row = "\t".join(str(getattr(proposal.source, c) or "") if c in _WRITTEN else "" for c in columns)
        before = before.rstrip("\n") + "\n"
    elif path.exists() and not force:
        raise GranvitError(f"{path}: is there already; --add adds the row to it, --force replaces it")
    else:
        row = proposal.lines()[-1]
        before = f"{header}\n"
    text = before + "\n".join([*proposal.lines()[:-1], row]) + "\n"
    with replacing(path) as staged:
        staged.write_text(text, encoding="utf-8")
        try:
            read_sources(staged)
        except GranvitError as error:
            raise GranvitError(str(error).replace(str(staged), str(path))) from None


def _bare(root: Path, name: str | None, layout: Layout) -> SourceSpec:
    """A source that demands nothing, so that its adapter reads whatever is there."""
    path = str(root)
    if not (Path("config/config.yaml").is_file() and not root.is_absolute()):
        path = str(root.absolute())
    if set(path) & set("\t\n\r") or not is_unicode(path):
        raise GranvitError(f"{path!r}: a row can hold no tab, line break or broken letter; rename the folder")
    if name is None:
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(os.path.abspath(root)).name).strip("_") or "Mine"
    options = ";".join(f"{option}={value}" for option, value in layout.options.items())
    try:
        return SourceSpec(
            name=name, data_type="natural", group=name, use="pretrain", adapter=layout.adapter, path=path,
            boxes="detector", captions="none", text="captioner", shards=1, options=options,
        )  # fmt: skip
    except ValueError as error:
        reasons = [entry["msg"].removeprefix("Value error, ") for entry in getattr(error, "errors", list)()]
        raise GranvitError(f"source {name!r}: {reasons[0] if reasons else error}; give --name") from None


def _read(source: SourceSpec) -> tuple[_Counts, list[Image.Image], BoxFits]:
    """What its adapter finds, some of its images, and how well their boxes lie on them."""
    counts, fits = _Counts(), BoxFits(source.box_format)
    images: list[Image.Image] = []
    with TemporaryDirectory() as folder, ImagePlaces(source.root) as places:
        catalogue = Path(folder) / "catalogue.sqlite"
        catalogue_source(source, catalogue)
        for _, item, _ in read_catalogue(catalogue, 0):
            counts.add(item)
        usable = ((key, item) for key, item, _ in read_catalogue(catalogue, 0) if item.place)
        chosen = heapq.nsmallest(_LOOKED_AT, usable, key=lambda one: hash_key(one[0], "proposal"))
        for _, item in chosen:
            with suppress(Rejected):
                image = decode_rgb(places.read(item.place), _MEMORY)
                for region in item.regions:
                    fits.add(region.box, *image.size)
                image.thumbnail((256, 256))
                images.append(image)
    return counts, images, fits


def _is_page(image: Image.Image) -> bool:
    """Whether an image looks like paper with something on it, and not like a photograph: an open guess, which
    the row says."""
    grey = np.asarray(image.convert("L"), np.int16)
    level = int(np.bincount(grey.ravel() // 8, minlength=32).argmax()) * 8 + 4
    share = float(np.mean(np.abs(grey - level) <= _PAPER_WIDTH))
    colour = float(np.asarray(image.convert("HSV"))[..., 1].mean())
    return level >= _PAPER_LEVEL and share >= _PAPER_SHARE and colour <= _COLOUR


def _decided(source: SourceSpec, counts: _Counts, pages: bool) -> SourceSpec:
    """The row with where boxes, texts and captions come from."""
    shards = max(1, -(-counts.images // _A_SHARD))
    if counts.turns and not counts.boxes:
        found = dict.fromkeys(("boxes", "text", "captions"), "none")
        return replace(source, shards=shards, data_type="instruction", use="sft", **found)
    lines = source.adapter in ("line_boxes", "paddle_labels")
    found = {"data_type": "ocr" if pages or lines else "natural"}
    found |= {"captions": "given"} if counts.captions else {}
    if counts.boxes:
        found |= {"boxes": "given", "text": "given" if counts.texts else "captioner"}
    elif found["data_type"] == "ocr":
        found |= {"boxes": "ocr", "text": "ocr"}
    return replace(source, shards=shards, **found)


def _facts(listing: Listing, layout: Layout, counts: _Counts, pages: int, looked_at: int) -> list[str]:
    found = f"{counts.images} images, {counts.captions} captions, {counts.boxes} boxes"
    found += f" ({counts.texts} with a text), {counts.turns} questions with answers"
    facts = [f"{listing.root}: {found}", f"adapter {layout.adapter}: {layout.why}"]
    if looked_at:
        photographs = f"{looked_at - pages} look like photographs"
        facts.append(f"kind: of {looked_at} images {photographs}, {pages} like pages")
    if counts.left_out:
        listed = ", ".join(f"{cause} {number}" for cause, number in counts.left_out.most_common())
        facts.append(f"left out while reading: {listed}")
    return facts


def _doubts(source: SourceSpec, counts: _Counts, pages: float) -> list[str]:
    found = []
    if 0.2 < pages < 0.8:
        found.append(f"data_type {source.data_type}: photographs and pages are mixed; make two rows")
    if source.data_type == "instruction":
        found.append("use sft: projector for captions alone, continued for continued pretraining")
        found.append("turn_boxes: nothing says what boxes in turns are fractions of (granvit data boxes)")
    if source.boxes == "detector":
        found.append("boxes detector, text captioner: models that config/config.yaml names; none are here")
    if source.boxes == "given" and counts.texts < counts.boxes and source.text == "given":
        found.append(f"{counts.boxes - counts.texts} boxes have no text and will be left out (no_text)")
    if source.captions == "none" and source.data_type == "natural":
        found.append("captions none: `captioner` would write one for each image")
    return found


def _choose_format(proposal: Proposal, fits: BoxFits) -> None:
    """Another box format where clearly more of the boxes lie on their images when read so."""
    counts = fits.counts()
    if "box_format" not in ADAPTERS[proposal.source.adapter].options or not any(counts.values()):
        return
    best, used = max(counts, key=lambda form: counts[form]), fits.form
    if counts[best] > counts[used] * (1 + _CLEARLY):
        options = ";".join(filter(None, [proposal.source.options, f"box_format={best}"]))
        proposal.source = replace(proposal.source, options=options)
        proposal.doubts.append(
            f"box_format {best}: {counts[best]} boxes lie on their images read so, {counts[used]} as {used}"
        )
