"""Boxes inside the text of questions and answers, and the frame that a source wrote them in.

Text with boxes says nowhere what they are fractions of. LLaVA pads an image to a square before its encoder
sees it, and boxes of its training data are said to be fractions of that square, while this project reads and
writes fractions of the original image (``granvit.boxes``). The row of a source names the frame (option
``turn_boxes``); here the text is moved to the original's, and boxes that speak against it are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from granvit.boxes import format_box, from_padded_square, from_relative, overhang
from granvit.data.records.records import Conversation, Reject, Rejected, rejecting
from granvit.errors import GranvitError

FRAMES = ("original", "padded_square")
OPTION = {
    "turn_boxes": "what boxes in questions and answers are fractions of: the original, or the "
    "padded_square of its longer side (original)"
}
_NUMBER = r"\s*(0?\.\d+|0|1|[01]\.0*)\s*"
_BOX = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]")
# Of the longer side. Two decimals round by half of it, and annotators draw a little beyond the border.
_TOLERANCE = 0.01
_ENOUGH = 100  # boxes before their silence about the padding says anything


@dataclass
class TurnBoxes:
    """The boxes in the turns of one shard, read in ``frame`` (one of FRAMES).

    ``told``: boxes on images that are not square, where alone the frames differ; ``in_padding``: those of
    them that as fractions of the padded square would lie partly in the padding, where nothing is.
    """

    frame: str
    told: int = 0
    in_padding: int = 0

    def read(
        self, turns: list[Conversation], width: int, height: int, rejects: list[Reject]
    ) -> list[Conversation]:
        """The turns with their boxes as fractions of the ``width`` x ``height`` image as shown; text without
        boxes, and of square images, as it is. A turn whose box lies in the padding goes to ``rejects``
        (``box_in_padding``)."""
        if width == height:
            return turns
        kept = []
        for turn in turns:
            outside = [_in_padding(box, width, height) for box in _boxes(turn)]
            self.told += len(outside)
            self.in_padding += sum(outside)
            with rejecting(rejects, "conversation"):
                kept.append(turn if self.frame == "original" else _moved(turn, any(outside), width, height))
        return kept

    def check(self, max_share: float, source: str) -> str | None:
        """A line for people where the frame ``original`` looks wrong, or None.

        Raises GranvitError where more than ``max_share`` of the boxes lie in the padding of
        ``padded_square``, which no box of such a source does.
        """
        counted = f"of {self.told} boxes in turns about images that are not square, {self.in_padding}"
        if self.frame == "padded_square" and self.in_padding > max(1, max_share * self.told):
            raise GranvitError(
                f"{source}: {counted} lie in the square's padding; data.max_cut_share allows {max_share}. "
                "Take turn_boxes=padded_square out of the row's `options` (`granvit data boxes` draws both)"
            )
        if self.frame == "original" and self.told >= _ENOUGH and self.in_padding <= self.told // _ENOUGH:
            return (
                f"{counted} would lie in the padding of a padded square: they may be fractions of that "
                "square. Draw both with `granvit data boxes`; if so, set turn_boxes=padded_square in the "
                "row's `options`"
            )
        return None


def boxes_of(text: str) -> Iterator[list[float]]:
    """The boxes in a text, four numbers of 0-1 in brackets whose corners are in order."""
    for match in _BOX.finditer(text):
        if box := _box(match):
            yield box


def in_frame(box: list[float], frame: str, width: int, height: int) -> list[float]:
    """A box of a text in pixels of the original image, read in one of FRAMES; not cut at the border."""
    return (from_padded_square if frame == "padded_square" else from_relative)(box, width, height)


def _box(match: re.Match) -> list[float] | None:
    box = [float(number) for number in match.groups()]
    return box if box[0] < box[2] and box[1] < box[3] else None


def _boxes(turn: Conversation) -> list[list[float]]:
    return [box for text in (turn.question, turn.answer) for box in boxes_of(text)]


def _in_padding(box: list[float], width: int, height: int) -> bool:
    beyond = overhang(from_padded_square(box, width, height), width, height)
    return beyond > _TOLERANCE * max(width, height)


def _moved(turn: Conversation, outside: bool, width: int, height: int) -> Conversation:
    if outside:
        raise Rejected("box_in_padding")

    def move(match: re.Match) -> str:
        box = _box(match)
        return format_box(from_padded_square(box, width, height), width, height) if box else match[0]

    return Conversation(_BOX.sub(move, turn.question), _BOX.sub(move, turn.answer))
