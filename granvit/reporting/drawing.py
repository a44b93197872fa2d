"""Pages of pictures and text: blocks of a known height, laid out in points, so that nothing is cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D
from PIL import Image

from granvit.files import replacing
from granvit.reporting.lettering import LINE, Rect, families, text_width, wrap

DPI = 150
INK, GREY, PALE = "#1d2530", "#5b6570", "#9aa3ad"
BODY = 7.0  # points
TAG = 6.0
INDENT = 16.0  # of what stands beside a tag
_ASCENT = 0.95  # where the baseline of a line is, in font sizes


@dataclass(frozen=True)
class View:
    """Where ``window`` of a picture (pixels) lies on a page: its top left corner, and points a pixel."""

    x: float
    y: float
    scale: float
    window: Rect

    @property
    def bounds(self) -> Rect:
        return self.rect(self.window)

    def rect(self, box: Sequence[float]) -> Rect:
        """A pixel box of the whole picture on the page."""
        left, top = self.window[:2]
        x1, x2 = (self.x + (value - left) * self.scale for value in (box[0], box[2]))
        y1, y2 = (self.y + (value - top) * self.scale for value in (box[1], box[3]))
        return (x1, y1, x2, y2)


class Page:
    """A figure in points from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=DPI)
        FigureCanvasAgg(self.figure)
        flip = Affine2D().scale(1 / 72, -1 / 72).translate(0, height / 72)
        self._points = flip + self.figure.dpi_scale_trans

    def text(
        self, x: float, y: float, text: str, size: float = BODY, colour: str = INK, weight: str = "normal"
    ) -> None:
        """One line of printable text whose line box begins at ``x, y``."""
        self.figure.text(
            x, y + _ASCENT * size, text, transform=self._points, fontsize=size, color=colour, weight=weight,
            va="baseline", parse_math=False, family=list(families()), zorder=6,
        )  # fmt: skip

    def frame(
        self,
        rect: Rect,
        colour: str,
        width: float = 1.2,
        style: str = "-",
        fill: bool = False,
        order: int = 3,
    ) -> None:
        """A rectangle: its outline, or filled."""
        x1, y1, x2, y2 = rect
        look = (
            {"facecolor": colour, "edgecolor": "none"} if fill else {"edgecolor": colour, "facecolor": "none"}
        )
        self.figure.add_artist(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, transform=self._points, linewidth=width, linestyle=style,
                zorder=order, **look,
            )
        )  # fmt: skip

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """A thin line."""
        self.figure.add_artist(
            Line2D(
                [start[0], end[0]], [start[1], end[1]], transform=self._points, linewidth=0.9,
                color=colour, zorder=3,
            )
        )  # fmt: skip

    def tag(self, x: float, y: float, text: str, size: float, colour: str) -> None:
        """White text on a filled rectangle of ``tag_size``."""
        width, height = tag_size(text, size)
        self.frame((x, y, x + width, y + height), colour, fill=True, order=5)
        inner = text_width(text, size, "bold")
        self.text(x + (width - inner) / 2, y + (height - LINE * size) / 2, text, size, "white", "bold")

    def image(self, image: Image.Image, view: View) -> None:
        """A picture in the place that ``view`` gives it."""
        x1, y1, x2, y2 = view.bounds
        place = (x1 / self.width, 1 - y2 / self.height, (x2 - x1) / self.width, (y2 - y1) / self.height)
        axes = self.figure.add_axes(place)
        axes.imshow(image, extent=(0, 1, 0, 1), aspect="auto")
        axes.set_axis_off()

    def save(self, out_png: str | Path, out_pdf: str | Path) -> None:
        """Write both whole or not at all, without the time or the software that made them."""
        with ExitStack() as stack:
            png, pdf = (stack.enter_context(replacing(path)) for path in (out_png, out_pdf))
            stack.enter_context(rc_context({"pdf.fonttype": 42}))  # text stays text
            self.figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
            nothing = {"CreationDate": None, "Creator": None, "Producer": None}
            self.figure.savefig(pdf, format="pdf", dpi=DPI, metadata=nothing)


def tag_size(text: str, size: float) -> tuple[float, float]:
    """Width and height in points of a tag."""
    return 1.05 * text_width(text, size, "bold") + 4, LINE * size


@dataclass
class Block:
    """Something of a known height; ``draw(page, x, y)`` puts it on a page."""

    height: float
    draw: Callable[[Page, float, float], None] = field(default=lambda page, x, y: None)


def paragraph(
    text: str, width: float, lines: int = 1, size: float = BODY, colour: str = INK, weight: str = "normal"
) -> Block:
    """Wrapped text."""
    wrapped = wrap(text, width, size, lines, weight)

    def draw(page: Page, x: float, y: float) -> None:
        for number, line in enumerate(wrapped):
            page.text(x, y + number * LINE * size, line, size, colour, weight)

    return Block(len(wrapped) * LINE * size, draw)


def tagged(tag: str, colour: str, text: str, width: float, lines: int = 2, indent: float = INDENT) -> Block:
    """A tag, and wrapped text beside it."""
    body = paragraph(text, width - indent, lines)

    def draw(page: Page, x: float, y: float) -> None:
        page.tag(x, y, tag, TAG, colour)
        body.draw(page, x + indent, y)

    return Block(max(body.height, LINE * BODY) + 2, draw)


def picture(
    image: Image.Image,
    width: float,
    height: float,
    overlay: Callable[[Page, View], None] | None = None,
    window: tuple[int, int, int, int] | None = None,
) -> Block:
    """A picture, or the ``window`` of it, as large as ``width`` x ``height`` points allow.

    ``overlay`` draws on it.
    """
    window = window or (0, 0, image.width, image.height)
    part = image.crop(window)
    scale = min(width / part.width, height / part.height)
    finest = scale * DPI / 72
    if finest < 1:  # no finer than the page: a figure holds dozens of photographs
        size = (max(1, round(finest * part.width)), max(1, round(finest * part.height)))
        small = part.resize(size, Image.Resampling.LANCZOS)
    else:
        small = part

    def draw(page: Page, x: float, y: float) -> None:
        view = View(x, y, scale, window)
        page.image(small, view)
        page.frame(view.bounds, PALE, 0.4)
        if overlay:
            overlay(page, view)

    return Block(scale * part.height, draw)


def stack(blocks: Sequence[Block], gap: float = 0) -> Block:
    """Blocks below each other."""

    def draw(page: Page, x: float, y: float) -> None:
        for block in blocks:
            block.draw(page, x, y)
            y += block.height + gap

    return Block(sum(block.height for block in blocks) + gap * max(0, len(blocks) - 1), draw)


def grid(head: Sequence[Block], cells: Sequence[Block], columns: int, width: float, gap: float = 18) -> Page:
    """A page of ``cells``, each ``width`` points wide, in rows as high as their highest, below ``head``."""
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    top = stack(head)
    heights = [max(cell.height for cell in row) for row in rows]
    page = Page(columns * width + (columns + 1) * gap, top.height + sum(heights) + (len(rows) + 2) * gap)
    top.draw(page, gap, gap)
    y = top.height + 2 * gap
    for row, height in zip(rows, heights, strict=True):
        for number, cell in enumerate(row):
            cell.draw(page, gap + number * (width + gap), y)
        y += height + gap
    return page
