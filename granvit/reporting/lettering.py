"""Text that fits: its measured width, lines that wrap, characters that no font has, and labels that do not
overlap.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

LINE = 1.3  # height of a line, in font sizes
_SLACK = 0.97  # PNG and PDF measure text a little differently
_MEASURED = 4  # text is measured at so many times its size, against hinting
_UNKNOWN = "□"
# DejaVu comes with matplotlib; the others fill in scripts that it lacks, where they are installed.
_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Noto Sans Devanagari",
    "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip

Rect = tuple[float, float, float, float]  # left, top, right, bottom


@lru_cache(maxsize=1)
def families() -> tuple[str, ...]:
    """Font families in the order in which a character is looked for."""
    installed = {font.name for font in fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _FAMILIES if name in installed))


@lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    paths = (findfont(FontProperties(family=[name])) for name in families())
    return frozenset(code for path in paths for code in get_font(path).get_charmap())


def printable(text: str) -> str:
    """``text`` on one line, without control characters; what no font can draw becomes a square."""
    words = " ".join(text.split())
    kept = (c for c in words if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return "".join(c if ord(c) in _drawable() else _UNKNOWN for c in kept)


@lru_cache(maxsize=1)
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, 72 * _MEASURED)


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in points of one printable line."""
    font = FontProperties(family=list(families()), size=size, weight=weight)
    return _renderer().get_text_width_height_descent(text, font, False)[0] / _MEASURED


def wrap(text: str, width: float, size: float, lines: int, weight: str = "normal") -> list[str]:
    """At most ``lines`` lines no wider than ``width`` points; what does not fit ends in an ellipsis."""

    def fits(line: str) -> bool:
        return text_width(line, size, weight) <= width * _SLACK

    # No character is narrower than about a fifth of its size: the rest could not fit anyway.
    rest = printable(text[: int(lines * width / size * 5) + 50])
    wrapped: list[str] = []
    while rest and len(wrapped) < lines:
        line = _head(rest, fits)
        rest = rest[len(line) :].lstrip()
        wrapped.append(line.rstrip())
    if rest and wrapped:
        while wrapped[-1] and not fits(wrapped[-1] + "…"):
            wrapped[-1] = wrapped[-1][:-1]
        wrapped[-1] = wrapped[-1].rstrip() + "…"
    return wrapped


def _head(text: str, fits: Callable[[str], bool]) -> str:
    """As many words of ``text`` as fit, or as many characters of a first word that is too long."""
    words = text.split(" ")
    count = bisect_left(range(1, len(words) + 1), True, key=lambda n: not fits(" ".join(words[:n])))
    if count:
        return " ".join(words[:count])
    first = words[0]
    return first[: max(1, bisect_left(range(1, len(first) + 1), True, key=lambda n: not fits(first[:n])))]


def place_labels(
    targets: Sequence[Rect],
    sizes: Sequence[tuple[float, float]],
    bounds: Rect,
    avoid: Sequence[Rect] = (),
) -> list[tuple[float, float] | None]:
    """Top left corner of a label of ``sizes[i]`` for each target: inside ``bounds``, none on another.

    The first free place is taken: in the target's corners or around it, off ``avoid`` (lines of text, which a
    label would hide), then on it, then the nearest place anywhere; None where ``bounds`` is full.
    """
    placed: list[Rect] = []
    corners: list[tuple[float, float] | None] = []
    for target, (width, height) in zip(targets, sizes, strict=True):
        near = list(_near(target, width, height))
        tries = [*((at, avoid) for at in near), *((at, ()) for at in near)]
        tries += [(at, ()) for at in _anywhere(target, width, height, bounds)]
        found = None
        for (x, y), others in tries:
            rect = (x, y, x + width, y + height)
            inside = x >= bounds[0] and y >= bounds[1] and rect[2] <= bounds[2] and rect[3] <= bounds[3]
            if inside and not any(overlap(rect, other) for other in (*placed, *others)):
                placed.append(rect)
                found = (x, y)
                break
        corners.append(found)
    return corners


def overlap(a: Rect, b: Rect) -> bool:
    """Whether two rectangles share an area."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _near(target: Rect, width: float, height: float) -> Iterator[tuple[float, float]]:
    x1, y1, x2, y2 = target
    if y2 - y1 >= 2.5 * height:
        yield from ((x1, y1), (x2 - width, y1), (x1, y2 - height), (x2 - width, y2 - height))
    middle = (y1 + y2 - height) / 2
    yield from ((x1 - width, middle), (x2, middle))
    yield from ((x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2))


def _anywhere(target: Rect, width: float, height: float, bounds: Rect) -> list[tuple[float, float]]:
    columns = int((bounds[2] - bounds[0]) // width)
    rows = int((bounds[3] - bounds[1]) // height)
    grid = [(bounds[0] + i * width, bounds[1] + j * height) for i in range(columns) for j in range(rows)]
    return sorted(grid, key=lambda p: (abs(p[0] - target[0]) + abs(p[1] - target[1]), p))
