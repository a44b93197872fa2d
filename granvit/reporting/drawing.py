"""Pages of pictures and text, as large as what matplotlib's own offset boxes pack on them: nothing is cut
off, and nothing lies on something else. Lengths are in points.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import DrawingArea, HPacker, OffsetBox, TextArea, VPacker
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from granvit.files import replacing
from granvit.reporting.lettering import families, text_width, wrap

DPI = 150
INK, GREY, PALE = "#1d2530", "#5b6570", "#9aa3ad"
# Of numbered boxes: dark enough for white digits, and told apart on photographs
COLOURS = (
    "#c8102e", "#1f5fa8", "#1b7f4b", "#9a5b00", "#7b2fa0", "#00707c", "#b0186b", "#4b4f00", "#3340a8",
    "#5d3a2e", "#a33c00", "#3d5a6c",
)  # fmt: skip
BODY, TAG = 7.0, 6.0  # sizes of fonts
INDENT = 16.0  # of what stands beside a tag
_LINE = 1.3  # height of a line, in sizes of its font


def paragraph(
    text: str, width: float, lines: int = 1, size: float = BODY, colour: str = INK, weight: str = "normal"
) -> OffsetBox:
    """Wrapped text."""
    look = {"fontsize": size, "color": colour, "weight": weight, "family": families(), "parse_math": False}
    wrapped = "\n".join(wrap(text, width, size, lines, weight))
    return TextArea(wrapped, textprops={**look, "linespacing": _LINE})


def tag_size(text: str) -> tuple[float, float]:
    """Width and height of a tag."""
    return 1.05 * text_width(text, TAG, "bold") + 4, _LINE * TAG


def add_tag(area: DrawingArea, place: Bbox, text: str, colour: str) -> None:
    """White text on a rectangle of ``tag_size``."""
    area.add_artist(Rectangle(place.p0, *place.size, facecolor=colour, edgecolor="none"))
    look = {"fontsize": TAG, "color": "white", "weight": "bold", "family": families(), "parse_math": False}
    area.add_artist(Text(*place.corners().mean(axis=0), text, ha="center", va="center_baseline", **look))


def tagged(tag: str, colour: str, block: OffsetBox, align: str = "top") -> OffsetBox:
    """A tag, and a block beside it."""
    width, height = tag_size(tag)
    area = DrawingArea(INDENT, height)
    add_tag(area, Bbox.from_bounds(0, 0, width, height), tag, colour)
    return HPacker(children=[area, block], align=align)


def numbered(blocks: Iterable[OffsetBox]) -> list[OffsetBox]:
    """Each block behind its number, in the colour of the picture's box of this number."""
    return [tagged(str(number + 1), colour_of(number), block) for number, block in enumerate(blocks)]


def colour_of(number: int) -> str:
    """The colour of a picture's ``number``-th box, counted from 0."""
    return COLOURS[number % len(COLOURS)]


def column(blocks: Sequence[OffsetBox], gap: float = 0, width: float = 0) -> OffsetBox:
    """Blocks below each other; at least ``width`` wide."""
    stack = VPacker(children=list(blocks), align="left", sep=gap)
    return VPacker(children=[stack, DrawingArea(width, 0)], align="left")


def grid(
    head: Sequence[OffsetBox], cells: Sequence[OffsetBox], columns: int, width: float, gap: float = 18
) -> Figure:
    """A page of ``cells``, each ``width`` wide, in rows as high as their highest, below ``head``."""
    wide = [column([cell], width=width) for cell in cells]
    starts = range(0, len(wide), columns)
    rows = [HPacker(children=wide[at : at + columns], align="top", sep=gap) for at in starts]
    page = VPacker(children=[column(head, 2), *rows], align="left", sep=gap, pad=gap)
    page.set_offset(lambda width, height, left, bottom, renderer: (left, bottom))
    figure = Figure(dpi=DPI)
    FigureCanvasAgg(figure)
    figure.add_artist(page)
    figure.set_size_inches(np.ceil(page.get_window_extent().size) / DPI)  # whole pixels
    return figure


def save_figure(figure: Figure, out_png: str | Path, facts: dict[str, Any]) -> None:
    """Write the figure as ``out_png``, as a PDF beside it, and ``facts`` as a JSON file beside it: what was
    shown (recipes with their hashes, keys of records or questions) and the settings that chose it.

    All files or none, without the time or the software that made them: equal figures are equal bytes.
    """
    out = Path(out_png)
    nothing = {"CreationDate": None, "Creator": None, "Producer": None}
    with ExitStack() as stack:
        png, pdf, sidecar = (
            stack.enter_context(replacing(out.with_suffix(end))) for end in (".png", ".pdf", ".json")
        )
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        stack.enter_context(rc_context({"pdf.fonttype": 42}))  # text stays text
        figure.savefig(pdf, format="pdf", dpi=DPI, metadata=nothing)
        Path(sidecar).write_text(
            json.dumps({"figure": out.stem} | facts, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
