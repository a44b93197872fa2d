"""What an inspection counts: images, regions and texts by what becomes of them, and their distributions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from granvit.config.data import FilterRules
from granvit.data.sources.rejects import CUT
from granvit.reporting.inspection.copies import Copies
from granvit.reporting.inspection.seen import KEPT, Seen

_BARS = 24  # at most
_USUAL = 0.99  # of whole numbers: the last bar holds what is above this quantile
_A_DOUBLING = 8  # bars of sizes and aspects, at most


@dataclass(frozen=True)
class Histogram:
    """``counts[i]`` values lie in [edges[i], edges[i + 1]), the last edge included; ``edges`` None ends it
    where the last bar is open. ``limit``: what the filters ask for, in words, and where that is."""

    name: str
    unit: str
    edges: list[float]
    counts: list[int]
    minimum: float
    median: float
    maximum: float
    open_end: bool = False
    limits: list[float] = field(default_factory=list)

    @property
    def n(self) -> int:
        return sum(self.counts)

    def label(self, at: int) -> str:
        """A bar in words: ``448 to 634``."""
        low, high = self.edges[at], self.edges[at + 1]
        if self.open_end and at == len(self.counts) - 1:
            return f"{plain(low)} or more"
        return plain(low) if self.unit == "" and high - low == 1 else f"{plain(low)} to {plain(high)}"


def plain(value: float) -> str:
    """A number for people: ``1250``, ``0.35``."""
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


@dataclass
class Findings:
    """``total``: images that there are; ``images``: those that were looked at."""

    name: str
    what: str
    total: int
    images: list[Seen]
    copies: list[Copies]
    histograms: list[Histogram]
    notes: list[str] = field(default_factory=list)

    @property
    def readable(self) -> list[Seen]:
        return [seen for seen in self.images if not seen.problem]

    @property
    def problems(self) -> Counter[str]:
        """cause -> images that cannot be used."""
        return Counter(seen.problem for seen in self.images if seen.problem)

    @property
    def dropped(self) -> Counter[str]:
        """rule -> images that it drops."""
        return Counter(seen.dropped for seen in self.readable if seen.dropped)

    @property
    def regions(self) -> dict[str, int]:
        """What became of regions: those that stay, those that a rule takes or that go with their image, and
        those that were left out while reading, by cause."""
        kept, taken = 0, Counter[str]()
        for seen in self.images:
            for part in seen.parts:
                if part.dropped:
                    taken[part.dropped] += 1
                elif seen.dropped:
                    taken[f"with the image ({seen.dropped})"] += 1
                else:
                    kept += 1
            if seen.problem:
                taken[f"with the image ({seen.problem})"] += seen.regions_lost
            lost = {cause: n for (what, cause), n in seen.lost.items() if what == "region" and cause != CUT}
            taken.update(lost)  # of a box that was cut a part stays
        return {KEPT: kept} | dict((+taken).most_common())

    def as_json(self) -> dict[str, Any]:
        """All counts, for programs."""
        readable = self.readable
        return {
            "name": self.name,
            "what": self.what,
            "notes": self.notes,
            "images": {
                "total": self.total,
                "looked_at": len(self.images),
                "kept": sum(seen.state == KEPT for seen in self.images),
                "dropped": dict(self.dropped.most_common()),
                "unreadable": dict(self.problems.most_common()),
            },
            "regions": self.regions,
            "captions": sum(bool(seen.caption) for seen in readable),
            "turns": sum(len(seen.turns) for seen in readable),
            "duplicates": [
                {"exact": one.exact, "images": [seen.path or seen.key for seen in one.members]}
                for one in self.copies
            ],
            "histograms": [vars(histogram) for histogram in self.histograms],
        }


def histograms(images: Sequence[Seen], rules: FilterRules) -> list[Histogram]:
    """How sizes, boxes and texts are distributed over the readable images; none of what there is not."""
    seen = [one for one in images if not one.problem]
    parts = [part for one in seen for part in one.parts]
    boxes = [(box[2] - box[0], box[3] - box[1]) for box in (part.box for part in parts)]
    boxes = [box for box in boxes if min(box) > 0]
    area, side, shape = rules.min_box_area, rules.min_image_side, _both(rules.image_aspect)
    box_shape = _both(rules.box_aspect) if rules.box_rules else []
    found = [
        _scaled("Shorter side of images", "px", [min(one.width, one.height) for one in seen], [side]),
        _scaled("Longer side of images", "px", [max(one.width, one.height) for one in seen]),
        _scaled("Width by height of images", "", [one.width / one.height for one in seen], shape),
        _counted("Boxes an image", [len(one.parts) for one in seen] if parts else []),
        _scaled("Size of boxes: root of their area", "px", [math.sqrt(w * h) for w, h in boxes],
                [math.sqrt(area)] if area and rules.box_rules else []),
        _scaled("Width by height of boxes", "", [w / h for w, h in boxes], box_shape),
        _counted("Characters of a region's text", [len(part.text) for part in parts if part.text]),
        _counted("Characters of a caption", [len(one.caption) for one in seen if one.caption]),
        _counted("Characters of an answer", [len(answer) for one in seen for _, answer in one.turns]),
    ]  # fmt: skip
    return [histogram for histogram in found if histogram is not None]


def _both(limit: float | None) -> list[float | None]:
    return [1 / limit, limit] if limit else []


def _scaled(
    name: str, unit: str, values: list[float], limits: Iterable[float | None] = ()
) -> Histogram | None:
    """Bars of equal ratio: eight to each doubling, fewer where they would be too many."""
    if not values:
        return None
    per = float(_A_DOUBLING)
    low, high = math.log2(min(values)), math.log2(max(values))
    while (high - low) * per > _BARS - 1:
        per /= 2
    first, last = math.floor(low * per + 1e-9), math.floor(high * per + 1e-9) + 1
    edges = [2 ** (step / per) for step in range(first, last + 1)]
    return _made(name, unit, values, edges, limits)


def _counted(name: str, values: list[int]) -> Histogram | None:
    """Bars of whole numbers; the last one is open where a few values lie far above the others."""
    if not values:
        return None
    low, most = min(values), max(values)
    top = max(low, math.ceil(np.quantile(values, _USUAL)))
    open_end = most > 2 * top
    top = top if open_end else most
    width = _round_width((top - low + 1) / _BARS)
    first = low // width * width
    edges = [float(edge) for edge in range(first, top + width + 1, width)]
    return _made(name, "", values, [*edges, float(most + 1)] if open_end else edges, (), open_end)


def _round_width(least: float) -> int:
    """1, 2, 5, 10, 20, ...: the first that is at least so wide."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= least:
                return step * power
        power *= 10


def _made(
    name: str,
    unit: str,
    values: Sequence[float],
    edges: list[float],
    limits: Iterable[float | None] = (),
    open_end: bool = False,
) -> Histogram:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)  # edges are rounded
    shown = [limit for limit in limits if limit is not None]
    return Histogram(name, unit, edges, counts.tolist(), float(min(values)), float(np.median(values)),
                     float(max(values)), open_end, shown)  # fmt: skip


def text_lines(found: Findings) -> list[str]:
    """The counts for a terminal."""
    counts = found.as_json()
    images, regions = counts["images"], dict(counts["regions"])
    some = f" of {found.total:,}, chosen by the hash of their keys" if len(found.images) < found.total else ""
    exact = sum(one.exact for one in found.copies)
    kept = regions.pop(KEPT)
    return [
        f"{found.name}: {found.what}",
        f"images   {images['looked_at']:,} looked at{some}: {images['kept']:,} kept"
        f" | dropped: {_listed(images['dropped'])} | unreadable: {_listed(images['unreadable'])}",
        f"regions  {kept + sum(regions.values()):,}: {kept:,} kept | left out: {_listed(regions)}",
        f"texts    {counts['captions']:,} captions, {counts['turns']:,} questions with answers",
        f"copies   {exact} groups of equal files, {len(found.copies) - exact} of near copies",
        *found.notes,
    ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
