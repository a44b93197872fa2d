"""Text that fits: its measured width, lines that wrap, and characters that no font has."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import text_to_path

_SLACK = 0.95  # hinting makes drawn text up to 4 % wider than measured
_UNKNOWN = "□"
# DejaVu comes with matplotlib; the others fill in scripts that it lacks, where they are installed.
_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Noto Sans Devanagari",
    "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip


@lru_cache(maxsize=1)
def families() -> list[str]:
    """Font families in the order in which a character is looked for."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FAMILIES if name in installed)]


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    paths = (findfont(FontProperties(family=[name])) for name in families())
    return frozenset(code for path in paths for code in get_font(path).get_charmap())


def printable(text: str) -> str:
    """``text`` on one line, without control characters; what no font can draw becomes a square."""
    words = " ".join(text.split())
    kept = (c for c in words if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return "".join(c if ord(c) in _drawable() else _UNKNOWN for c in kept)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in points of one printable line."""
    font = FontProperties(family=families(), size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, False)[0]


def wrap(text: str, width: float, size: float, lines: int, weight: str = "normal") -> list[str]:
    """At most ``lines`` lines no wider than ``width`` points; what does not fit ends in an ellipsis."""

    def fits(line: str) -> bool:
        return text_width(line, size, weight) <= width * _SLACK

    # No character is narrower than about a fifth of its size: the rest could not fit anyway.
    rest = printable(text[: int(lines * width / size * 5) + 50])
    wrapped: list[str] = []
    while rest and len(wrapped) < lines:
        if fits(rest):
            return [*wrapped, rest]
        end = "…" if len(wrapped) == lines - 1 else ""
        count = bisect_left(range(len(rest)), True, key=lambda n: not fits(rest[: n + 1] + end))
        space = rest.rfind(" ", 0, count + 1)
        cut = space if space > 0 else max(1, count)  # a word that is too long for a line is broken
        wrapped.append(rest[:cut].rstrip() + end)
        rest = rest[cut:].lstrip()
    return wrapped
