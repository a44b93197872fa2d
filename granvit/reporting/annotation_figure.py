"""Figure 2: how one image is annotated, from its pixels to the questions and answers of training (Sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.offsetbox import HPacker, OffsetBox
from PIL import Image

from granvit.boxes import area, clip_box, format_box
from granvit.config.data import FilterRules
from granvit.data.records.filters import in_order
from granvit.data.records.prompts import (
    GLOBAL_CAPTION_QUESTION,
    bbox2caption_question,
    caption2bbox_question,
)
from granvit.data.records.records import Record, readable_key
from granvit.reporting.data_figures import counted
from granvit.reporting.data_samples import Shown, listed_regions
from granvit.reporting.drawing import GREY, INDENT, INK, column, grid, numbered, paragraph, tagged
from granvit.reporting.pictures import Picture, decoded

TITLE = "Figure 2. Annotation of one image"
_PANEL = 252.0  # points
_CROP = (88.0, 34.0)
_LISTED = 8
_GREEN = "#1b7f4b"
_MADE_BY = {
    "given": "as the source gives them",
    "detector": "by the detector",
    "captioner": "by the captioner",
    "ocr": "by PaddleOCR",
    "none": "none",
}


def annotation_page(
    chosen: Shown, rules: FilterRules, made_by: Mapping[str, str], scale: str, title: str = TITLE
) -> Figure:
    """Figure 2: six steps, in the order of the paper's figure; equal data give equal pages.

    ``chosen``: from ``choose_annotation``. ``made_by``: how the source's ``boxes``, ``captions`` and ``text``
    are had (columns of the sources file). Raises GranvitError for an image that cannot be decoded.
    """
    record = chosen.record
    image = decoded(chosen.image, record.key)
    listed = _listed(chosen)
    plain, boxes, filtered = (Picture(image, _PANEL, _PANEL) for _ in range(3))
    boxes.draw_boxes(record, listed)
    filtered.draw_boxes(record, listed, chosen.dropped_by)
    more = len(record.regions) - len(listed)
    rest = [f"and {counted(more, 'box')} more, thin in the picture"] if more else []
    about = [paragraph(f"Image: {record.caption}", _PANEL, 12)] if record.caption else []
    how = {kind: _MADE_BY.get(way, way) for kind, way in made_by.items()}
    size = f"{record.source}, {record.width} × {record.height} px"
    captions = f"Regions: {how['text']}. Global caption: {how['captions'] if record.caption else 'none'}."
    pixels = "Pixels, divided by the image's width and height."
    steps = [
        ("Image", size, [plain]),
        ("Boxes", f"{counted(len(record.regions), 'box')}, {how['boxes']}", [boxes]),
        ("Captions", captions, [*_crops(image, record, listed), *map(_aside, rest), *about]),
        ("Relative coordinates", pixels, [*_coordinates(record, listed), *map(_aside, rest)]),
        ("Filters", _kept(chosen), [filtered, column(_rule_lines(chosen, rules))]),
        ("Questions and answers", "The paper's three forms, for what is kept.", _questions(chosen)),
    ]
    head = [
        paragraph(f"{title} ({scale} scale)", 3 * _PANEL, 2, size=13, weight="bold"),
        paragraph(f"Key: {readable_key(record.key)}", 3 * _PANEL, 2, size=8, colour=GREY),
    ]
    return grid(head, [_panel(number, *step) for number, step in enumerate(steps, 1)], 3, _PANEL)


def _aside(text: str) -> OffsetBox:
    return paragraph(text, _PANEL, 2, colour=GREY)


def _panel(number: int, title: str, facts: str, blocks: Sequence[OffsetBox]) -> OffsetBox:
    name = paragraph(title, _PANEL - INDENT, size=10, weight="bold")
    return column([column([tagged(str(number), INK, name, "center"), _aside(facts)], 2), *blocks], 4)


def _listed(chosen: Shown) -> list[int]:
    """Boxes that are named: dropped ones too, but no more than half while others could be shown."""
    record = chosen.record
    if len(record.regions) <= _LISTED:
        return list(range(len(record.regions)))
    kept = [at for at, rule in enumerate(chosen.dropped_by) if rule is None]
    dropped = [at for at, rule in enumerate(chosen.dropped_by) if rule is not None]
    some = listed_regions(
        [record.regions[at] for at in dropped], record.data_type, max(_LISTED // 2, _LISTED - len(kept))
    )
    others = listed_regions([record.regions[at] for at in kept], record.data_type, _LISTED - len(some))
    return sorted([dropped[at] for at in some] + [kept[at] for at in others])


def _crops(image: Image.Image, record: Record, listed: Sequence[int]) -> list[OffsetBox]:
    """Each listed region's pixels beside its text."""
    crops = []
    for at in listed:
        x1, y1, x2, y2 = clip_box(record.regions[at].box, image.width, image.height)
        left, top = min(int(x1), image.width - 1), min(int(y1), image.height - 1)
        window = (left, top, max(left + 1, math.ceil(x2)), max(top + 1, math.ceil(y2)))
        crops.append(Picture(image, *_CROP, window))
    widest = max((crop.width for crop in crops), default=0) + 6
    blocks = []
    for at, crop in zip(listed, crops, strict=True):
        text = record.regions[at].text
        words = "(not described: a filter drops it)" if text is None else text or "(no text)"
        described = paragraph(words, _PANEL - INDENT - widest, 3)
        blocks.append(HPacker(children=[column([crop], width=widest), described], align="top"))
    return numbered(blocks)


def _coordinates(record: Record, listed: Sequence[int]) -> list[OffsetBox]:
    blocks = []
    for box in (record.regions[at].box for at in listed):
        # Zero is added against "-0".
        pixels = ", ".join(f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".") for value in box)
        relative = format_box(box, record.width, record.height)
        lines = [paragraph(f"[{pixels}] px", _PANEL - INDENT, 2)]
        lines.append(paragraph(f"→ {relative}", _PANEL - INDENT, weight="bold"))
        blocks.append(column(lines, 2))
    return numbered(blocks)


def _kept(chosen: Shown) -> str:
    kept, number = chosen.dropped_by.count(None), len(chosen.dropped_by)
    if kept == number:
        return f"{counted(number, 'box')} of {number} kept"
    return f"{kept} of {counted(number, 'box')} kept; dropped ones are struck out"


def _rule_lines(chosen: Shown, rules: FilterRules) -> list[OffsetBox]:
    """Each rule that is on, in its order, and how many boxes it drops here."""
    wants = {
        "image_side": f"shorter side of the image > {rules.min_image_side} px",
        "image_aspect": f"aspect ratio of the image at most {rules.image_aspect or 0:g}",
        "box_aspect": f"aspect ratio of a box at most {rules.box_aspect or 0:g}",
        "box_area": f"area of a box > {rules.min_box_area or 0:,.0f} px²",
        "regions": f"at least {counted(rules.min_regions, 'box')} left",
    }
    blocks = []
    for rule in in_order(rules):
        dropped = chosen.dropped_by.count(rule.name)
        outcome = f"drops {counted(dropped, 'box')}" if dropped else "passed"
        text = f"{rule.name}: {wants[rule.name]} – {outcome}"
        blocks.append(paragraph(text, _PANEL, 2, colour=INK if dropped else GREY))
    return blocks


def _questions(chosen: Shown) -> list[OffsetBox]:
    """The three forms of Sec. 3. The region's two are about the box of middle size among those kept: the
    largest is often the whole image.
    """
    record = chosen.record
    kept = [region for region, rule in zip(record.regions, chosen.dropped_by, strict=True) if rule is None]
    pairs = []
    if record.caption:
        pairs.append(("Global caption", GLOBAL_CAPTION_QUESTION, record.caption))
    if kept:
        region = sorted(kept, key=lambda region: area(region.box))[len(kept) // 2]
        box = format_box(region.box, record.width, record.height)
        pairs.append(("Bbox2Caption", bbox2caption_question(box), region.text))
        pairs.append(("Caption2Bbox", caption2bbox_question(region.text), box))
    blocks = []
    for name, question, answer in pairs:
        asked = tagged("Q", GREY, paragraph(question, _PANEL - INDENT, 4))
        answered = tagged("A", _GREEN, paragraph(answer, _PANEL - INDENT, 7))
        blocks.append(column([paragraph(name, _PANEL, size=8, weight="bold"), asked, answered], 2))
    return blocks
