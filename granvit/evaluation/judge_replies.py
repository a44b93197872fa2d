"""What a judge's reply says: its last words without the thinking before them, and a mark from 0 to 1.

A mark is a number from 0 to 1 or nothing. Read are ``0.5``, ``.5``, ``1.``, ``0,5`` and ``1e-1``; behind a
label (``Mark: 0.5``, ``The score is 0.5``), between marks of quotation or emphasis (``**0.5**``), and before
words (``0.5 because ...``). Whatever may stand for another scale, or for several marks, is not read:
``1/10``, ``1 out of 10``, ``50 %``, ``0.4-0.6``, ``0.4 or 0.5``; nor is what counts something
(``1. It names ...``, ``1 chair``). The judge is then asked again.
"""

from __future__ import annotations

import re

from granvit.servers.reply_cache import Reply

_THOUGHTS = re.compile(r".*</think>", re.DOTALL)
_ECHO = re.compile(r"[\W_]*(?:mark|letter|meaning|final answer)[*_]*\s*:", re.IGNORECASE)  # the prompts' ends
_WRAPPING = "*_`'\"“”‘’()[]{}"
_LABEL = re.compile(
    r"(?:(?:the|my|a|i|would|will|final|give|assign|overall|answer's)\s+)*"
    r"(?:mark|score|grade|rating|this|it)?(?:\s+(?:is|of|a|mark|score|would|be))*\s*[:=]?\s*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*|,[0-9]{1,2})?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
# "1. It names ..." and "1) ..." count what follows, and so does "1 chair".
_COUNTS = re.compile(r"[0-9]+(?:\.\s*[^\W\d]|\)|[ \t]+(?!because\b|since\b|as\b)\w)", re.IGNORECASE)
# What makes a number behind which it stands a fraction, a percentage, a range, or one of several.
_GOES_ON = re.compile(
    r"\s*(?:[/%‰÷×^]|(?:out\s+)?of\b|to\b|or\b|and\b|per\s*cent|[-–—−~:,.;]*\s*[-+]?[.,]?\d|[-–—−~]\s*$|…|\.\.)",
    re.IGNORECASE,
)


def last_words(reply: Reply) -> str:
    """What a reply says behind its thinking and an echo of the prompt's end; of one that was cut off, without
    the last word, which may be half a number. Thinking without an end says nothing.
    """
    text = _THOUGHTS.sub("", reply.text)
    if "<think>" in text:
        return ""
    if reply.cut_off:
        text = re.sub(r"\S+$", "", text)
    echo = _ECHO.match(text)
    return text[echo.end() :].strip() if echo else text.strip()


def read_mark(text: str) -> float | None:
    """The mark that a reply gives, 0-1, or None where it gives none that is beyond doubt."""
    bracket = text.strip()[:1]
    text = text.strip().lstrip(_WRAPPING + " ")
    text = text[_LABEL.match(text).end() :].lstrip(_WRAPPING + " ")
    found = _NUMBER.match(text)
    if found is None or (bracket != "(" and _COUNTS.match(text)):
        return None
    rest = text[found.end() :].lstrip(_WRAPPING)
    if _GOES_ON.match(rest) or re.match(r"\w", rest):
        return None
    mark = float(found.group().replace(",", "."))
    return mark if mark <= 1 else None
