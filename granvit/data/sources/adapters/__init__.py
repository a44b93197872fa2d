"""What raw sources look like, one reader a layout: each streams, and opens no image.

A reader yields one ``RawItem`` an image (or several that the catalogue joins), with boxes and texts as the
source states them. What is wrong with a single annotation travels along in ``rejects``, so that it costs that
annotation only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from granvit.data.sources.adapters import (
    coco,
    folder,
    line_boxes,
    llava,
    metadata_jsonl,
    paddle_labels,
    parquet,
    tars,
    umg,
    visual_genome,
    voc,
    yolo,
)
from granvit.data.sources.items import RawItem


class Adapter(NamedTuple):
    """A reader; what a row's `options` may hold for it, each option with what it says (and its default); and
    the options that a row cannot do without. ``box_format``: how its boxes are written, unless a row says.
    """

    read: Callable[[Path | str, dict[str, str]], Iterator[RawItem]]
    options: dict[str, str]
    required: tuple[str, ...] = ()
    box_format: str = "xyxy"


ADAPTERS = {
    "coco": Adapter(coco.read_coco, coco.OPTIONS, box_format="xywh"),
    "folder": Adapter(folder.read_folder, folder.OPTIONS),
    "llava": Adapter(llava.read_llava, llava.OPTIONS),
    "visual_genome": Adapter(visual_genome.read_visual_genome, visual_genome.OPTIONS, box_format="xywh"),
    "umg": Adapter(umg.read_umg, umg.OPTIONS),
    "line_boxes": Adapter(line_boxes.read_line_boxes, line_boxes.OPTIONS),
    "paddle_labels": Adapter(paddle_labels.read_paddle_labels, paddle_labels.OPTIONS),
    "yolo": Adapter(yolo.read_yolo, yolo.OPTIONS, box_format="cxcywh_relative"),
    "voc": Adapter(voc.read_voc, voc.OPTIONS),
    "metadata_jsonl": Adapter(metadata_jsonl.read_metadata_jsonl, metadata_jsonl.OPTIONS, box_format="xywh"),
    "parquet": Adapter(parquet.read_parquet, parquet.OPTIONS),
    "tars": Adapter(tars.read_tars, tars.OPTIONS),
    "urls": Adapter(tars.read_urls, tars.URL_OPTIONS, required=("list",)),
}
