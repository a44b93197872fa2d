"""Judging single values of annotation files: what is not what it should be costs its annotation only."""

from __future__ import annotations

import math
import posixpath
import re

from granvit.boxes import from_xywh
from granvit.data.records.records import Conversation
from granvit.data.sources.items import Place


class Broken(ValueError):
    """An annotation that cannot be used; the message is the cause, as counted in rejects.csv."""


def text(value: object) -> str | None:
    """A string without surrounding white space, or None for an empty or absent one.

    Raises Broken ``broken_text`` for a string that is no Unicode: bytes that are no UTF-8, half a surrogate
    pair.
    """
    if not isinstance(value, str):
        return None
    if not is_unicode(value):
        raise Broken("broken_text")
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
    """Four finite numbers as ``[x1, y1, x2, y2]``; ``form`` is ``xyxy`` or ``xywh``.

    Raises Broken ``bad_box`` for anything else. Order, size and position are judged at ingest, where the
    image is known.
    """
    if not isinstance(value, (list, tuple)) or len(value) != 4 or not all(is_number(v) for v in value):
        raise Broken("bad_box")
    found = list(value) if form == "xyxy" else from_xywh(value)
    if not all(map(is_number, found)):  # a sum may lie beyond all floats where its parts do not
        raise Broken("bad_box")
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


def loose_image(folder: str, name: object) -> Place | None:
    """The place of the image file ``name`` in ``folder``; None where no name is given."""
    if not isinstance(name, str) or not name:
        return None
    return Place(posixpath.join(folder, name))  # an absolute name stays one, and is refused when read


def turns(value: object) -> list[Conversation]:
    """Questions and answers of alternating human and gpt turns in LLaVA's form, without the ``<image>`` mark.

    Raises Broken ``bad_conversation`` or ``broken_text``.
    """
    if not isinstance(value, list) or not value or len(value) % 2:
        raise Broken("bad_conversation")
    pairs = []
    for human, gpt in zip(value[::2], value[1::2], strict=True):
        if not (isinstance(human, dict) and isinstance(gpt, dict)):
            raise Broken("bad_conversation")
        if (human.get("from"), gpt.get("from")) != ("human", "gpt"):
            raise Broken("bad_conversation")
        answer = text(gpt.get("value"))
        if text(human.get("value")) is None or answer is None:
            raise Broken("bad_conversation")
        # Nothing but the mark and its line break goes: benchmarks' prompts end in blanks that training has
        # to see.
        question = re.sub(r"<image>\n?|\n<image>", "", human["value"])
        if not question.strip():
            raise Broken("bad_conversation")
        pairs.append(Conversation(question, answer))
    return pairs
