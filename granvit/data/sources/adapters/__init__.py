"""What raw sources look like, one reader a layout: each streams, and opens no image.

A reader yields one ``RawItem`` an image (or several that the catalogue joins), with boxes and texts as the
source states them. What is wrong with a single annotation travels along in ``rejects``, so that it costs that
annotation only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from granvit.data.sources.adapters import (
    coco,
    folder,
    line_boxes,
    llava,
    parquet,
    tars,
    umg,
    visual_genome,
)
from granvit.data.sources.items import RawItem

ADAPTERS: dict[str, Callable[[Path | str, dict[str, str]], Iterator[RawItem]]] = {
    "coco": coco.read_coco,
    "folder": folder.read_folder,
    "llava": llava.read_llava,
    "visual_genome": visual_genome.read_visual_genome,
    "umg": umg.read_umg,
    "line_boxes": line_boxes.read_line_boxes,
    "parquet": parquet.read_parquet,
    "tars": tars.read_tars,
    "urls": tars.read_urls,
}

# What a row's `options` may hold: for each adapter, the option and what it says (with its default).
OPTIONS: dict[str, dict[str, str]] = {
    "coco": coco.OPTIONS,
    "folder": folder.OPTIONS,
    "llava": llava.OPTIONS,
    "visual_genome": visual_genome.OPTIONS,
    "umg": umg.OPTIONS,
    "line_boxes": line_boxes.OPTIONS,
    "parquet": parquet.OPTIONS,
    "tars": tars.OPTIONS,
    "urls": tars.URL_OPTIONS,
}

# The options that a row cannot do without.
REQUIRED: dict[str, tuple[str, ...]] = {"urls": ("list",)}
