"""What an adapter yields: one item an image, as the source states it, before any image is opened.

Values of annotation files are judged one by one: what is not what it should be costs its annotation only.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from granvit.data.records.records import Conversation, Region, Reject, Rejected, rejecting
from granvit.data.sources.box_formats import to_corners


@dataclass(frozen=True)
class Place:
    """Where an image's bytes lie.

    ``file`` is relative to the source's folder. Inside a tar: the byte range ``offset, size``. Inside a
    Parquet file: ``row`` of the whole file in ``column``; where the column holds a list of images, ``part``
    is the position in it. ``problem``: why the bytes cannot be had, where reading the source showed it
    already; it is the cause under which the image is rejected.
    """

    file: str
    offset: int | None = None
    size: int | None = None
    row: int | None = None
    column: str | None = None
    part: int | None = None
    problem: str | None = None

    @classmethod
    def of(cls, folder: str, name: object) -> Place | None:
        """That of the image file ``name`` in ``folder``; None where no name is given."""
        if not isinstance(name, str) or not name:
            return None
        return cls(posixpath.join(folder, name))  # an absolute name stays one, and is refused when read

    @property
    def in_container(self) -> bool:
        """Whether ``file`` is a tar or a Parquet file that holds many images."""
        return self.offset is not None or self.row is not None


@dataclass
class RawItem:
    """One image of a source, and what the source says about it.

    ``place`` is None where the source names no image; ``stated_size`` is the ``(width, height)`` the boxes
    refer to, where the source gives it; ``rejects`` holds the annotations that were dropped while reading. A
    region without a text has the text ``""``: a captioner may still write one.

    ``joins``: this is one more thing said about the image ``original_id`` (a COCO annotation, a LLaVA entry),
    and the catalogue puts all of them together, wherever they stand in the source. Two items that do not join
    and share an id are duplicates.
    """

    original_id: str
    place: Place | None
    stated_size: tuple[int, int] | None = None
    caption: str | None = None
    regions: list[Region] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    joins: bool = False

    @property
    def path(self) -> str:
        """Where its image lies, for people: a file, a tar and the name in it, a Parquet file and the row; the
        id where the source names no image."""
        place = self.place
        if place is None or not place.file:
            return self.original_id
        if place.row is not None:
            part = "" if place.part is None else f", image {place.part}"
            return f"{place.file}: row {place.row} of {place.column}{part}"
        if place.offset is not None or place.file.endswith(".tar"):
            inside = self.original_id.removeprefix(place.file.removesuffix(".tar") + "/")
            return f"{place.file}: {inside}"
        return place.file


def text(value: object) -> str | None:
    """A string without surrounding white space, or None for an empty or absent one.

    Raises Rejected ``broken_text`` for a string that is no Unicode: bytes that are no UTF-8, half a surrogate
    pair.
    """
    if not isinstance(value, str):
        return None
    if not is_unicode(value):
        raise Rejected("broken_text")
    return value.strip() or None


def is_unicode(value: str) -> bool:
    """Whether a string can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: object) -> bool:
    """A finite number that is no boolean; an integer beyond all floats is none either."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def box(value: object, form: str = "xyxy") -> list[float]:
    """Four finite numbers as ``[x1, y1, x2, y2]``; ``form`` is one of ``BOX_FORMATS``.

    Fractions of the image stay fractions: they become pixels at ingest, where the image is known.

    Raises Rejected ``bad_box`` for anything else. Order, size and position are judged at ingest, where the
    image is known.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 4 or not all(is_number(v) for v in value):
        raise Rejected("bad_box")
    found = to_corners(value, form)
    if not all(map(is_number, found)):  # a sum may lie beyond all floats where its parts do not
        raise Rejected("bad_box")
    return found


def identifier(value: object) -> str | None:
    """An id as a string, None for what is none. 7.0 is 7: tables with empty cells write numbers so."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def score(value: object) -> float | None:
    return float(value) if is_number(value) else None


def size(width: object, height: object) -> tuple[int, int] | None:
    """``(width, height)`` where both are positive numbers."""
    if is_number(width) and is_number(height) and width > 0 and height > 0:
        return int(width), int(height)
    return None


def add_regions(item: RawItem, values: object, read: Callable[[Any], Region]) -> None:
    """Put into ``item`` what ``read`` makes of each value of a list; None is no list, and no fault either.

    A value that it finds Rejected costs that region only.
    """
    if values is not None and not isinstance(values, list):
        item.rejects.append(Reject("region", "bad_regions", 1))
        return
    for value in values or ():
        with rejecting(item.rejects, "region", 1):
            item.regions.append(read(value))


def turns(value: object) -> list[Conversation]:
    """Questions and answers of alternating human and gpt turns in LLaVA's form, without the ``<image>`` mark.

    Raises Rejected ``bad_conversation`` or ``broken_text``.
    """
    if not isinstance(value, list) or not value or len(value) % 2:
        raise Rejected("bad_conversation")
    pairs = []
    for human, gpt in zip(value[::2], value[1::2], strict=True):
        if not (isinstance(human, dict) and isinstance(gpt, dict)):
            raise Rejected("bad_conversation")
        if (human.get("from"), gpt.get("from")) != ("human", "gpt"):
            raise Rejected("bad_conversation")
        answer = text(gpt.get("value"))
        if text(human.get("value")) is None or answer is None:
            raise Rejected("bad_conversation")
        # Nothing but the mark and its line break goes: benchmarks' prompts end in blanks that training has
        # to see.
        question = re.sub(r"<image>\n?|\n<image>", "", human["value"])
        if not question.strip():
            raise Rejected("bad_conversation")
        pairs.append(Conversation(question, answer))
    return pairs
