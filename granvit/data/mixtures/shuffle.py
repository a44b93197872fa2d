"""Shuffled boxes, a control (docs/controls.md): images, texts and boxes stay, which box a text belongs to
does not."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from granvit.boxes import from_relative, iou
from granvit.data.records.records import hash_key
from granvit.errors import GranvitError

MOST_DONORS = 1024  # boxes kept of each type of data, for regions that find no other one in their image
SAME_PLACE = 0.5  # IoU from which another box would be nearly the right one

Row = dict
Box = list[float]


def region_name(row: Row, region: Row) -> str:
    """What hashes know a region by: its box, since its position in the list would change with the filters."""
    return f"{row['key']} {','.join(map(repr, region['box']))}"


class Donors:
    """Boxes of other images for regions whose own image has no other place: those of the smallest hashes, so
    that any machine takes the same ones. ``rows``: of an index, with key, data_type, width, height and
    boxes."""

    def __init__(self, rows: Iterable[Row], most: int = MOST_DONORS) -> None:
        self.most = most
        self._kept: dict[str, list[tuple[int, Box]]] = {}  # by data type; heaps of negated hashes
        for row in rows:
            for region in row["regions"]:
                self._offer(row, region)
        self.boxes = {kind: [box for _, box in sorted(kept)] for kind, kept in self._kept.items()}

    def _offer(self, row: Row, region: Row) -> None:
        (x1, y1, x2, y2), width, height = region["box"], row["width"], row["height"]
        relative = [x1 / width, y1 / height, x2 / width, y2 / height]
        kept = self._kept.setdefault(row["data_type"], [])
        entry = (-hash_key(region_name(row, region), "donor"), relative)
        (heapq.heappushpop if len(kept) >= self.most else heapq.heappush)(kept, entry)

    def find(self, row: Row, region: Row) -> Box:
        """A box for a region of ``row``, in pixels of that image, elsewhere than all of its regions with the
        same text. Raises GranvitError where no known box is."""
        own = [other["box"] for other in row["regions"] if other["text"] == region["text"]]
        boxes = self.boxes.get(row["data_type"], [])
        start = hash_key(region_name(row, region), "borrow")
        for step in range(len(boxes)):
            box = from_relative(boxes[(start + step) % len(boxes)], row["width"], row["height"])
            if all(iou(box, other) < SAME_PLACE for other in own):
                return box
        raise GranvitError(
            f"mixture: image {row['key']!r}: no other box for its region at {region['box']}; shuffled boxes "
            f"need a second region somewhere in the {row['data_type']} sources"
        )


def shuffle_boxes(row: Row, donors: Donors) -> list[Row]:
    """The row's regions, each text with the box of another region: of the same image, the next in the order
    of hashes that lies elsewhere (IoU below 0.5) and says something else; without one, a donor's.

    The text of a region never keeps its own box, nor that of a twin with the same text.
    """
    regions = row["regions"]
    order = sorted(range(len(regions)), key=lambda at: hash_key(region_name(row, regions[at]), "shuffle"))
    shuffled = list(regions)
    for place, at in enumerate(order):
        own, others = regions[at], [regions[i] for i in (*order[place + 1 :], *order[:place])]
        box = next((other["box"] for other in others if _is_elsewhere(own, other)), None)
        shuffled[at] = own | {"box": box or donors.find(row, own)}
    return shuffled


def _is_elsewhere(own: Row, other: Row) -> bool:
    return other["text"] != own["text"] and iou(own["box"], other["box"]) < SAME_PLACE
