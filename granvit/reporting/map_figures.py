"""Figs. 1b, 8 and 9: what a query patch attends to, and which features are like its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.offsetbox import DrawingArea, HPacker, OffsetBox
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from granvit.boxes import Box, pad_offsets
from granvit.data.records.records import readable_key
from granvit.errors import GranvitError
from granvit.reporting.drawing import BODY, GREY, INK, column, grid, paragraph
from granvit.reporting.lettering import families, wrap
from granvit.reporting.pictures import Picture

TITLES = {
    "figure1b": "Figure 1b. What a query patch looks at",
    "figure8": "Figure 8. Maps of query patches: photographs",
    "figure9": "Figure 9. Maps of query patches: pages",
}
RED, WHITE = "#e00024", "white"
_MAP, _GAP = 58.0, 3.0  # points
_NAME = 9.0
_IMAGE = 2 * _MAP + 2 * _GAP + _NAME  # as high as the two maps and the name above them
_COLUMNS = 2  # of points, where there are more than two
_OPACITY = 0.62
_COLOURS = "viridis"  # no red in it: the query's box stands out


def stretched(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """A map (G, G) min-max to 0-1 over the patches that show something of a ``width`` x ``height`` picture,
    not over padding; a map that is alike everywhere is 0."""
    dx, dy, side = pad_offsets(width, height)
    cell = side / len(values)
    rows, columns = (
        slice(int(begin / cell), math.ceil((begin + length) / cell))
        for begin, length in ((dy, height), (dx, width))
    )
    low, high = values[rows, columns].min(), values[rows, columns].max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def overlaid(picture: Image.Image, values: np.ndarray, threshold: float = 0.0) -> Image.Image:
    """A grey picture with a map (G, G; 0-1) of its padded square laid over it, patch by patch, where the map
    reaches ``threshold``."""
    dx, dy, side = pad_offsets(*picture.size)
    cells = Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.NEAREST)
    shown = np.asarray(cells)[dy : dy + picture.height, dx : dx + picture.width, None]
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    grey = 128 + np.repeat(grey, 3, axis=2) * 127 / 255  # pale, so that colours are the map's
    colours = 255 * colormaps[_COLOURS](np.clip(shown[..., 0], 0, 1))[..., :3]
    opacity = np.where(shown >= threshold, _OPACITY, 0.0)
    return Image.fromarray(np.uint8(np.rint(grey * (1 - opacity) + colours * opacity)))


def patch_box(patch: Mapping[str, int], width: int, height: int) -> Box:
    """A patch of the padded square in pixels of a ``width`` x ``height`` picture, as far as it is on it."""
    dx, dy, side = pad_offsets(width, height)
    cell = side / patch["grid"]
    x, y = patch["column"] * cell - dx, patch["row"] * cell - dy
    return [max(0, x), max(0, y), min(width, x + cell), min(height, y + cell)]


def maps_page(
    maps: str | Path, points: str | Path, title: str, encoders: Sequence[str], threshold: float, scale: str
) -> tuple[Figure, dict[str, Any]]:
    """The page of one figure, from the files of ``granvit.evaluation.query_maps``, and what it shows, for the
    sidecar; equal files give equal pages. Raises GranvitError for files that are missing or broken."""
    arrays, shown = _read(maps, points)
    cells = [_cell(arrays, number, point, encoders, threshold) for number, point in enumerate(shown)]
    width = _IMAGE + len(encoders) * (_MAP + _GAP)
    columns = _COLUMNS if len(cells) > 2 else 1
    whole = columns * width + (columns - 1) * 18
    notes = [
        "The query is the patch in the red box. Above: attention of the last layer used, mean over heads, "
        f"min-max of each map, below {threshold:g} left out. Below: cosine similarity of the query's "
        "feature with all others, below 0 left out. One square is one patch."
    ]
    if not cells:
        notes.append("This scale holds out no image that this figure asks for.")
    head = [paragraph(f"{title} ({scale} scale)", whole, 2, size=10, weight="bold")]
    head += [paragraph(note, whole, 4, colour=GREY) for note in notes]
    head.append(_legend(threshold))
    queries = [{name: point[name] for name in ("key", "point", "box")} for point in shown]
    return grid(head, cells, columns, width, gap=14), {
        "keys": [point["key"] for point in shown],
        "queries": queries,
    }


def _read(maps: str | Path, points: str | Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    try:
        return load_file(maps), json.loads(Path(points).read_text(encoding="utf-8"))["points"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise GranvitError(f"{maps}: cannot be read ({error}); make it with `snakemake {maps}`") from error


def _cell(
    arrays: Mapping[str, np.ndarray],
    number: int,
    point: Mapping[str, Any],
    encoders: Sequence[str],
    threshold: float,
) -> OffsetBox:
    """One query: the picture, then each encoder's two maps; the key below."""
    picture = Image.fromarray(arrays[f"{number}.picture"])
    height = min(_IMAGE, _IMAGE * picture.height / picture.width)
    plain = Picture(picture, _IMAGE, height)
    mark(plain, patch_box(point["patches"][encoders[-1]], *picture.size))
    blocks: list[OffsetBox] = [column([plain], width=_IMAGE)]
    for name in encoders:
        box = patch_box(point["patches"][name], *picture.size)
        attention = stretched(arrays[f"{number}.{name}.attention"], *picture.size)
        drawn = [
            Picture(overlaid(picture, attention, threshold), _MAP, _MAP),
            Picture(overlaid(picture, arrays[f"{number}.{name}.cosine"]), _MAP, _MAP),
        ]
        for part in drawn:
            mark(part, box)
        blocks.append(column([_name(name), *drawn], _GAP, _MAP))
    x, y = point["point"]
    where = f"{readable_key(point['key'])} at ({x:g}, {y:g})"
    key = paragraph(where, _IMAGE + len(encoders) * _MAP, size=5.5, colour=GREY)
    return column([HPacker(children=blocks, align="bottom", sep=_GAP), key], 2)


def _name(text: str) -> OffsetBox:
    """An encoder's name; all on one line, whatever letters they have."""
    area = DrawingArea(_MAP, _NAME)
    look = {"fontsize": BODY, "color": INK, "weight": "bold", "family": families(), "parse_math": False}
    area.add_artist(Text(0, 2, wrap(text, _MAP, BODY, 1, "bold")[0], **look))
    return area


def mark(picture: Picture, box: Box) -> None:
    """A red box with a thin white rim."""
    picture.frame(
        box, edgecolor=RED, linewidth=1.1, path_effects=[withStroke(linewidth=2.0, foreground=WHITE)]
    )


def _legend(threshold: float) -> OffsetBox:
    """The colours of both maps, with what their ends stand for."""
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (12, 1))
    strip = Image.fromarray(np.uint8(255 * colormaps[_COLOURS](ramp)[..., :3]))
    words = [paragraph(text, 60, colour=GREY) for text in ("0", "1")]
    return HPacker(children=[words[0], Picture(strip, 90, 5), words[1]], align="center", sep=4)
