"""Boxes and texts as COCO annotations state them when something is wrong, and what has to become of each."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class DirtyBox:
    """What a COCO annotation states (with the text ``text``), and what becomes of it: the box kept, or the
    cause of its rejection; or both, where it is kept in part."""

    bbox: object
    kept: tuple[float, float, float, float] | None = None
    cause: str | None = None
    text: object = "mark"
    crowd: bool = False


BROKEN_UTF8 = "BROKEN-UTF-8"  # replaced by bytes that are no UTF-8 where the JSON is written

DIRTY_BOXES = [
    DirtyBox([8, 8, 32, 16], kept=(8, 8, 40, 24)),
    DirtyBox([-5, -5.5, 13, 13.5], kept=(0, 0, 8, 8), cause="box_cut"),
    DirtyBox([90, 60, 1000, 1000], kept=(90, 60, 96, 64), cause="box_cut"),
    DirtyBox([-0.0, 0, 96, 64], kept=(0, 0, 96, 64)),
    DirtyBox([0.123456, 0.5, 10.006, 3], kept=(0.12, 0.5, 10.13, 3.5)),
    DirtyBox([8, 8, 4, 4], kept=(8, 8, 12, 12), text="ünïcode 雪\u2028 \U0001f600 \t\x01"),
    DirtyBox([96, 0, 10, 10], cause="box_outside"),
    DirtyBox([0, -20, 10, 20], cause="box_outside"),
    DirtyBox([500, 500, 10, 10], cause="box_outside"),
    DirtyBox([40, 24, -32, 16], cause="swapped_box"),
    DirtyBox([40, 24, 32, -16], cause="swapped_box"),
    DirtyBox([8, 8, 0, 16], cause="empty_box"),
    DirtyBox([8, 8, 16, 0], cause="empty_box"),
    DirtyBox([8, 8, 0.001, 16], cause="empty_box"),
    DirtyBox([float("nan"), 8, 16, 16], cause="bad_box"),
    DirtyBox([8, 8, float("inf"), 16], cause="bad_box"),
    DirtyBox([8, 8, float("-inf"), 16], cause="bad_box"),
    DirtyBox([1.7e308, 8, 1.7e308, 16], cause="bad_box"),
    DirtyBox([10**400, 8, 16, 16], cause="bad_box"),
    DirtyBox([8, 8, "16", 16], cause="bad_box"),
    DirtyBox([8, 8, None, 16], cause="bad_box"),
    DirtyBox([8, 8, True, 16], cause="bad_box"),
    DirtyBox([8, 8, 16], cause="bad_box"),
    DirtyBox([8, 8, 16, 16, 1], cause="bad_box"),
    DirtyBox([[8, 8, 16, 16]], cause="bad_box"),
    DirtyBox({"x": 8}, cause="bad_box"),
    DirtyBox(None, cause="bad_box"),
    DirtyBox([8, 8, 16, 16], cause="broken_text", text=f"a {BROKEN_UTF8}"),
    DirtyBox([8, 8, 16, 16], cause="broken_text", text="half a pair \ud83d"),
    DirtyBox([8, 8, 16, 16], cause="no_text", text=" \n"),
    DirtyBox([8, 8, 16, 16], cause="no_text", text=None),
    DirtyBox([8, 8, 16, 16], cause="no_text", text=7),
    DirtyBox([8, 8, 16, 16], cause="crowd_annotation", crowd=True),
]


def dump(content: object) -> bytes:
    """JSON as careless programs write it: NaN, and bytes that are no UTF-8."""
    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return text.replace(BROKEN_UTF8.encode(), b"\xff\xfe")
