"""What an adapter yields: one item an image, as the source states it, before anything is opened or judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from granvit.data.records.accounts import Reject
from granvit.data.records.records import Conversation, Region


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
