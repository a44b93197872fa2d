"""Sources: the rows of ``config/sources*.tsv``, one data set each (Table 6)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from granvit.config.reading import Count, Filled, Row, read_table
from granvit.data.records.records import DATA_TYPES
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.box_formats import BOX_FORMATS
from granvit.data.sources.turn_boxes import FRAMES
from granvit.errors import GranvitError

# Where the texts of regions can come from, by where their boxes come from.
_TEXTS_OF_BOXES = {
    "given": ("given", "captioner"),
    "detector": ("captioner",),
    "ocr": ("ocr",),
    "none": ("none",),
}
_RESERVED = {"total", "all", "none"}  # rows and choices of reports and tables
_MOST_SHARDS = 100_000  # their names have five digits
# Options whose values are words of a list
_WORDS = {
    "turn_boxes": FRAMES,
    "box_format": BOX_FORMATS,
    "points": ("4", "2"),
    "between": ("0", "1"),
    "first_pixel": ("1", "0"),
    "difficult": ("leave_out", "keep"),
}
_INSIDE = ("images", "files")  # options that name what has to lie below the row's path


def _folder_name(name: str) -> str:
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ValueError("names folders: use letters, digits, - and _ only")
    if name.lower() in _RESERVED:
        raise ValueError("stands for something else in reports; rename the source")
    return name


@dataclass(frozen=True)
class SourceSpec(Row):
    """One row of a sources file.

    ``path`` is the raw folder relative to the repository, or a URL that fsspec opens (``hf://datasets/...``,
    Parquet only), and may hold a literal ``{scale}``. ``group`` is the line of Table 7 it counts under.
    ``boxes``, ``captions`` (of whole images) and ``text`` (of regions) say where each comes from.
    ``options`` is the adapter's own, ``a=b;c=d``. ``origin``, ``fetch`` and ``licence`` are for people: where
    the data are published, the command that fetches them into ``path``, their terms. The ``reported`` counts
    are Table 6's, after filtering. ``truth`` names annotations that people made of some or all of the images,
    which the annotators are measured by: ``adapter=...;path=...`` and the adapter's options.
    """

    name: Annotated[Filled, AfterValidator(_folder_name)]
    data_type: Literal[*DATA_TYPES]
    group: Filled
    use: Literal["pretrain", "projector", "sft", "continued"]
    adapter: Literal[*ADAPTERS]
    path: Filled
    boxes: Literal["given", "detector", "ocr", "none"]
    captions: Literal["given", "captioner", "none"]
    text: Literal["given", "captioner", "ocr", "none"]
    shards: Annotated[Count, Field(le=_MOST_SHARDS)]
    options: str = ""
    origin: str = ""
    fetch: str = ""
    licence: str = ""
    reported_images: Count | None = None
    reported_regions: Count | None = None
    truth: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """``options`` by name."""
        return parse_options(self.options)

    @property
    def box_format(self) -> str:
        """How the boxes of regions are written (``granvit.data.sources.box_formats``)."""
        return self.settings.get("box_format", ADAPTERS[self.adapter].box_format)

    @property
    def turn_boxes(self) -> str:
        """The frame of boxes in questions and answers (``granvit.data.sources.turn_boxes``)."""
        return self.settings.get("turn_boxes", FRAMES[0])

    @property
    def is_remote(self) -> bool:
        return "://" in self.path

    @property
    def root(self) -> Path | str:
        """What adapters and ImagePlaces take: a folder, or the URL as it is."""
        return self.path if self.is_remote else Path(self.path)

    @property
    def is_annotated(self) -> bool:
        """Whether a model adds boxes, texts or captions; otherwise an ingested shard's records are final.

        Boxes that come without texts are annotated too: that is where a region without a text is rejected.
        """
        asks = self.boxes in ("detector", "ocr") or "captioner" in (self.captions, self.text)
        return asks or (self.boxes == "given" and self.text == "none")

    @property
    def truth_source(self) -> SourceSpec:
        """What ``truth`` names, as a source in one shard: read by the row's own adapter and options, from its
        own path, unless ``truth`` says otherwise. Raises ValueError for a mistake in it."""
        settings = parse_options(self.truth)
        adapter, path = settings.pop("adapter", self.adapter), settings.pop("path", self.path)
        if adapter not in ADAPTERS or adapter == "urls":
            known = ", ".join(name for name in ADAPTERS if name != "urls")
            raise ValueError(f"adapter is {adapter!r}; expected one of {known}")
        options = ";".join(f"{name}={value}" for name, value in settings.items())
        if not settings and adapter == self.adapter:
            options = self.options
        notes = {"origin": "", "fetch": "", "truth": "", "row": "", "shards": 1}
        asks = {"boxes": "detector", "text": "captioner", "captions": "none"}  # so that nothing is demanded
        return replace(self, adapter=adapter, path=path, options=options, **asks, **notes)

    def shard_names(self) -> list[str]:
        """``00000``, ``00001``, ...: one ingest, annotate, filter and pack job each."""
        return [f"{shard:05d}" for shard in range(self.shards)]


def absent_source(source: SourceSpec) -> GranvitError:
    """The error for a source whose data are not there: its row, the path looked at, how to get them."""
    row = f"{source.row}: " if source.row else ""
    parts = [
        f"{row}source {source.name!r}: its data are absent, {Path(source.path).absolute()} does not exist."
    ]
    if source.fetch:
        parts.append(f"Fetch them with `{source.fetch}`")
        parts.append(f"(published at {source.origin}),") if source.origin else parts.append("")
    else:
        parts.append(f"Put them there{f' ({source.origin})' if source.origin else ''},")
    parts.append("or change the row's `path` (layouts: docs/data.md)")
    return GranvitError(" ".join(part for part in parts if part))


def parse_options(text: str) -> dict[str, str]:
    """``a=b;c=d`` as a dictionary. Raises ValueError naming a part that is no ``name=value``."""
    settings: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not name or not equals or not value:
            raise ValueError(f"{part!r} is no `name=value`")
        if name in settings:
            raise ValueError(f"{name!r} is given twice")
        settings[name] = value
    return settings


def read_sources(tsv: str | Path) -> dict[str, SourceSpec]:
    """Sources by name, in the file's order; no disk is looked at but this file.

    Raises GranvitError as `read_table` does, and for a row whose columns do not go together.
    """
    sources = read_table(tsv, SourceSpec, "set data.sources to a sources file that exists")
    for source in sources.values():
        for mistake in (*_mistakes(source), *_option_mistakes(source), *_truth_mistakes(source)):
            raise GranvitError(f"{source.row}: {mistake}")
    return sources


def _mistakes(source: SourceSpec) -> Iterator[str]:
    """What does not go together in a row."""
    data_type, boxes, text = source.data_type, source.boxes, source.text
    if (source.use == "pretrain") == (data_type == "instruction"):
        yield (
            f"use is {source.use!r} where data_type is {data_type!r}; natural and ocr data are for pretrain, "
            "instruction data for projector, sft or continued"
        )
    if text not in _TEXTS_OF_BOXES[boxes]:
        yield (
            f"text is {text!r} where boxes is {boxes!r}; expected one of "
            f"{', '.join(_TEXTS_OF_BOXES[boxes])} (text is what regions say, captions are of whole images)"
        )
    if boxes == "ocr" and data_type != "ocr":
        yield f"boxes 'ocr' is for data_type 'ocr', not {data_type!r}; use given or detector"
    if boxes == "none" and data_type != "instruction":
        yield (
            f"boxes is 'none' where data_type is {data_type!r}, so that no image would pass the filters; use "
            "given, detector or ocr"
        )
    if source.is_remote and source.adapter != "parquet":
        yield (
            f"path is {source.path!r}; adapter {source.adapter!r} needs a folder (a URL is for 'parquet' "
            "alone)"
        )


def _option_mistakes(source: SourceSpec) -> Iterator[str]:
    known, required = ADAPTERS[source.adapter].options, ADAPTERS[source.adapter].required
    try:
        settings = source.settings
    except ValueError as error:
        yield f"options: {error}; write `name=value;name=value`"
        return
    for name in settings:
        if name not in known:
            listed = "; ".join(f"{option}: {meaning}" for option, meaning in known.items()) or "none"
            yield f"options: adapter {source.adapter!r} has no {name!r}; it takes {listed}"
    for name in required:
        if name not in settings:
            yield f"options: adapter {source.adapter!r} needs {name}=... ({known[name]})"
    for name in (name for name in _WORDS if settings.get(name, _WORDS[name][0]) not in _WORDS[name]):
        yield f"options: {name} is {settings[name]!r}; expected one of {', '.join(_WORDS[name])}"
    for name in (name for name in _INSIDE if name in settings):
        if any(map(_is_outside, settings[name].split(","))):
            yield (
                f"options: {name} is {settings[name]!r}, outside the row's path {source.path!r}; name it "
                "relative to the path (a link in there may lead elsewhere), or change the path"
            )


def _truth_mistakes(source: SourceSpec) -> Iterator[str]:
    if not source.truth:
        return
    try:
        truth = source.truth_source
    except ValueError as error:
        yield f"truth: {error}; write `adapter=NAME;path=FOLDER` and the adapter's options"
        return
    if source.data_type == "instruction":
        yield "truth: instruction data have no boxes or captions to measure; leave the cell empty"
    if truth.is_remote:
        yield f"truth: path is {truth.path!r}; name a folder on this disk"
    yield from (f"truth: {mistake}" for mistake in _option_mistakes(truth))


def _is_outside(part: str) -> bool:
    part = part.strip()
    return os.path.isabs(part) or os.path.normpath(part).split(os.sep)[0] == ".."
