"""What went into a step and what came out of it: the columns of the shards' lists and counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from granvit.data.records.records import Record

REJECT_COLUMNS = ["key", "what", "cause", "regions"]
COUNT_COLUMNS = ["source", "mode", "rule", "images_in", "images_out", "regions_in", "regions_out"]
# A region without a text, about which nothing could be asked.
NO_TEXT = "no_region_text"


@dataclass
class Reject:
    """Something left out. ``what``: image, region, caption or conversation; ``regions``: how many regions are
    lost with it."""

    what: str
    cause: str
    regions: int = 0


class Rejected(ValueError):
    """Something that cannot be used; the message is the cause, as counted in rejects.csv."""


@contextmanager
def rejecting(rejects: list[Reject], what: str, regions: int = 0) -> Iterator[None]:
    """Put into ``rejects`` what is Rejected inside: it costs itself only."""
    try:
        yield
    except Rejected as cause:
        rejects.append(Reject(what, str(cause), regions))


@dataclass
class Count:
    """What went into a rule and what came out."""

    images_in: int = 0
    images_out: int = 0
    regions_in: int = 0
    regions_out: int = 0

    def add(self, before: Record, after: Record | None) -> None:
        self.images_in += 1
        self.regions_in += len(before.regions)
        if after is not None:
            self.images_out += 1
            self.regions_out += len(after.regions)
