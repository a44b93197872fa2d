"""Which images are copies of each other: by their bytes, or by the hashes of the contamination check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from granvit.data.mixtures.contamination import DETAIL_BITS_A_BIT, near_pairs
from granvit.data.records.fingerprints import FEATURELESS
from granvit.reporting.inspection.seen import Seen


@dataclass
class Copies:
    """A group of images; ``exact``: all of them have the same bytes."""

    members: list[Seen]
    exact: bool


def find_copies(images: Sequence[Seen], max_distance: int) -> list[Copies]:
    """The groups, largest first; ``Seen.copies`` of their members becomes the group's number, from 1.

    ``max_distance``: bits of 64 in which two perceptual hashes may differ (`data.contamination`). A chain of
    near images is one group. Featureless images match by equal bytes alone.
    """
    readable = [seen for seen in images if seen.sha256]
    leader = list(range(len(readable)))

    def of(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = leader[at]
        return at

    first: dict[str, int] = {}
    for at, seen in enumerate(readable):
        leader[of(at)] = of(first.setdefault(seen.sha256, at))
    for one, other in _near(readable, max_distance):
        leader[of(one)] = of(other)
    groups: dict[int, list[Seen]] = {}
    for at, seen in enumerate(readable):
        groups.setdefault(of(at), []).append(seen)
    found = [Copies(group, len({seen.sha256 for seen in group}) == 1) for group in groups.values()]
    found = sorted((one for one in found if len(one.members) > 1), key=lambda one: -len(one.members))
    for number, one in enumerate(found, 1):
        for seen in one.members:
            seen.copies = number
    return found


def _near(images: Sequence[Seen], max_distance: int) -> list[tuple[int, int]]:
    places = [at for at, seen in enumerate(images) if seen.detail and seen.phash not in ("", FEATURELESS)]
    hashes = np.array([int(images[at].phash, 16) for at in places], np.uint64)
    found = []
    pairs = near_pairs(hashes, hashes, max_distance)[:2]
    for i, j in zip(*(values.tolist() for values in pairs), strict=True):
        if i < j:
            one, other = places[i], places[j]
            differing = (int(images[one].detail, 16) ^ int(images[other].detail, 16)).bit_count()
            if differing <= DETAIL_BITS_A_BIT * max_distance:
                found.append((one, other))
    return found
