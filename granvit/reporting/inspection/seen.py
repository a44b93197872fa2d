"""One image as the inspection shows it: what the source says, and what the project would do with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from granvit.data.records.filters import Rule
from granvit.data.records.records import Record, Region, Reject

KEPT = "kept"


@dataclass
class Part:
    """A region; ``dropped``: the rule that takes it, empty where it stays."""

    box: list[float]
    text: str
    dropped: str = ""


@dataclass
class Seen:
    """An image. ``problem``: why it cannot be used at all; ``dropped``: the rule of the filters that takes
    it; both are empty where it is kept. ``lost``: (what, cause) -> how many things of it were left out while
    reading; ``regions_lost``: those that go with an image that cannot be used. ``picture``, ``size``: its
    small copy; ``detail``: its detail hash, 64 hexadecimal digits; ``copies``: its group of duplicates, from
    1 (0: none).
    """

    key: str
    path: str
    problem: str = ""
    dropped: str = ""
    width: int = 0
    height: int = 0
    caption: str = ""
    parts: list[Part] = field(default_factory=list)
    turns: list[tuple[str, str]] = field(default_factory=list)
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    regions_lost: int = 0
    sha256: str = ""
    phash: str = ""
    detail: str = ""
    picture: str = ""
    size: tuple[int, int] = (0, 0)
    copies: int = 0

    @property
    def state(self) -> str:
        """``kept``, the rule that drops it, or the cause for which it cannot be used."""
        return self.problem or self.dropped or KEPT


def judged(record: Record, rules: Sequence[Rule], rejects: Iterable[Reject], path: str) -> Seen:
    """A record as the filters' ``rules`` leave it, and what was left out of it before."""
    seen = Seen(record.key, path, width=record.width, height=record.height, caption=record.caption or "")
    seen.turns = [(turn.question, turn.answer) for turn in record.conversations]
    seen.sha256, seen.phash = record.image_sha256 or "", record.phash or ""
    add_rejects(seen, rejects)
    taken: dict[int, str] = {}
    kept = record
    for rule in rules:
        left = rule.apply(kept)
        if left is None:
            seen.dropped = rule.name
            break
        stays = {id(region) for region in left.regions}
        taken |= {id(region): rule.name for region in kept.regions if id(region) not in stays}
        kept = left
    seen.parts = [_part(region, taken.get(id(region), "")) for region in record.regions]
    return seen


def rejected(key: str, path: str, rejects: Iterable[Reject]) -> Seen:
    """An image that cannot be used."""
    rejects = list(rejects)
    causes = [reject.cause for reject in rejects if reject.what == "image"]
    seen = Seen(key, path, problem=causes[-1] if causes else "unknown")
    add_rejects(seen, rejects)
    return seen


def add_rejects(seen: Seen, rejects: Iterable[Reject]) -> None:
    """Enter what was left out with an image."""
    for reject in rejects:
        if reject.what == "image":
            seen.regions_lost += reject.regions
        else:
            seen.lost[reject.what, reject.cause] += 1


def _part(region: Region, dropped: str) -> Part:
    return Part([float(value) for value in region.box], region.text or "", dropped)
