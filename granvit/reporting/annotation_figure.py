"""Figure 2: how one image is annotated, from its pixels to the questions and answers of training (Sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from granvit.boxes import clip_box, format_box
from granvit.config.data import FilterRules
from granvit.data.mixtures.prompts import (
    GLOBAL_CAPTION_QUESTION,
    bbox2caption_question,
    caption2bbox_question,
)
from granvit.data.records.filters import in_order
from granvit.data.records.records import Record, Region
from granvit.reporting.data_figures import colour_of, counted, decoded, label_boxes, numbered_boxes, outline
from granvit.reporting.data_samples import Annotation, choose_annotation, listed_regions
from granvit.reporting.drawing import (
    GREY,
    INDENT,
    INK,
    PALE,
    Block,
    Page,
    View,
    grid,
    paragraph,
    picture,
    stack,
    tagged,
)

_PANEL = 252.0  # points
_CROP = (88.0, 34.0)
_LISTED = 8
_MADE_BY = {
    "given": "as the source gives them",
    "detector": "by the detector",
    "captioner": "by the captioner",
    "ocr": "by PaddleOCR",
    "none": "none",
}


def draw_annotation(
    annotated: str | Path,
    index: str | Path,
    rules: FilterRules,
    made_by: Mapping[str, str],
    scale: str,
    out_png: str | Path,
    out_pdf: str | Path,
) -> None:
    """Figure 2 from one shard: ``annotated``, its records before the filters, and ``index``, that of the
    packed shard; equal data give equal bytes.

    ``made_by``: how the source's ``boxes``, ``captions`` and ``text`` are had (columns of the sources file).
    """
    chosen = choose_annotation(annotated, index, rules)
    annotation_page(chosen, rules, made_by, scale).save(out_png, out_pdf)


def annotation_page(chosen: Annotation, rules: FilterRules, made_by: Mapping[str, str], scale: str) -> Page:
    """The page that ``draw_annotation`` saves: six steps, in the order of the paper's figure."""
    record = chosen.record
    image = decoded(chosen.image, record.key)
    listed = _listed(chosen)
    more = len(record.regions) - len(listed)
    rest = (
        [paragraph(f"and {counted(more, 'box')} more, thin in the picture", _PANEL, colour=GREY)]
        if more
        else []
    )

    def boxes(page: Page, view: View) -> None:
        numbered_boxes(page, view, record, listed)

    def filtered(page: Page, view: View) -> None:
        _filtered(page, view, chosen, listed)

    texts = [*_crops(image, record, listed), *rest]
    if record.caption:
        texts += [Block(2), paragraph(f"Image: {record.caption}", _PANEL, 12)]
    how = {kind: _MADE_BY.get(way, way) for kind, way in made_by.items()}
    captions = f"Regions: {how['text']}. Global caption: {how['captions'] if record.caption else 'none'}."
    coordinates = [*_coordinates(record, listed), *rest]
    rule_lines = [Block(4), *_rule_lines(chosen, rules)]
    number = counted(len(record.regions), "box")
    panels = [
        _panel(1, "Image", f"{record.source}, {record.width} × {record.height} px", [_picture(image)]),
        _panel(2, "Boxes", f"{number}, {how['boxes']}", [_picture(image, boxes)]),
        _panel(3, "Captions", captions, texts),
        _panel(4, "Relative coordinates", "Pixels, divided by the image's width and height.", coordinates),
        _panel(5, "Filters", _kept(chosen), [_picture(image, filtered), *rule_lines]),
        _panel(6, "Questions and answers", "The paper's three forms, for what is kept.", _questions(chosen)),
    ]
    head = [
        paragraph(f"Figure 2. Annotation of one image ({scale} scale)", 2 * _PANEL, size=13, weight="bold"),
        paragraph(f"Key: {record.key}", 3 * _PANEL, 2, size=8, colour=GREY),
    ]
    return grid(head, panels, 3, _PANEL)


def _panel(number: int, title: str, facts: str, blocks: Sequence[Block]) -> Block:
    head = tagged(str(number), INK, "", _PANEL)
    name = paragraph(title, _PANEL - INDENT, size=10, weight="bold")

    def draw(page: Page, x: float, y: float) -> None:
        head.draw(page, x, y + 2)
        name.draw(page, x + INDENT, y)

    return stack([Block(name.height + 1, draw), paragraph(facts, _PANEL, 2, colour=GREY), Block(4), *blocks])


def _picture(image: Image.Image, overlay=None) -> Block:
    return picture(image, _PANEL, _PANEL, overlay)


def _listed(chosen: Annotation) -> list[int]:
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


def _crops(image: Image.Image, record: Record, listed: Sequence[int]) -> list[Block]:
    """Each listed region's pixels beside its text."""
    windows = []
    for at in listed:
        x1, y1, x2, y2 = clip_box(record.regions[at].box, image.width, image.height)
        left, top = min(int(x1), image.width - 1), min(int(y1), image.height - 1)
        windows.append((left, top, max(left + 1, math.ceil(x2)), max(top + 1, math.ceil(y2))))
    widths = [min(_CROP[0], _CROP[1] * (x2 - x1) / (y2 - y1)) for x1, y1, x2, y2 in windows]
    indent = INDENT + max(widths, default=0) + 6
    blocks = []
    for number, (at, window) in enumerate(zip(listed, windows, strict=True)):
        crop = picture(image, *_CROP, window=window)
        blocks.append(_crop_and_text(number, crop, record.regions[at].text, indent))
    return blocks


def _crop_and_text(number: int, crop: Block, text: str | None, indent: float) -> Block:
    tag = tagged(str(number + 1), colour_of(number), "", _PANEL)
    words = "(not described: a filter drops it)" if text is None else text or "(no text)"
    body = paragraph(words, _PANEL - indent, 3)

    def draw(page: Page, x: float, y: float) -> None:
        tag.draw(page, x, y)
        crop.draw(page, x + INDENT, y)
        body.draw(page, x + indent, y)

    return Block(max(crop.height, body.height, tag.height) + 4, draw)


def _coordinates(record: Record, listed: Sequence[int]) -> list[Block]:
    blocks = []
    for number, at in enumerate(listed):
        box = record.regions[at].box
        # Zero is added against "-0".
        pixels = ", ".join(f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".") for value in box)
        relative = format_box(box, record.width, record.height)
        blocks.append(tagged(str(number + 1), colour_of(number), f"[{pixels}] px", _PANEL))
        blocks.append(_indented(paragraph(f"→ {relative}", _PANEL - INDENT, weight="bold")))
        blocks.append(Block(2))
    return blocks


def _indented(block: Block) -> Block:
    return Block(block.height, lambda page, x, y: block.draw(page, x + INDENT, y))


def _kept(chosen: Annotation) -> str:
    kept, number = chosen.dropped_by.count(None), len(chosen.dropped_by)
    if kept == number:
        return f"{counted(number, 'box')} of {number} kept"
    return f"{kept} of {counted(number, 'box')} kept; dropped ones are struck out"


def _filtered(page: Page, view: View, chosen: Annotation, listed: Sequence[int]) -> None:
    """Boxes that stay in their colours; those that do not in grey, struck out, with the rule's name."""
    record, labels = chosen.record, []
    for at, (region, rule) in enumerate(zip(record.regions, chosen.dropped_by, strict=True)):
        rect = view.rect(region.box)
        if rule is not None:
            outline(page, rect, GREY, record.data_type, "--")
            page.line(rect[:2], rect[2:], GREY)
            page.line((rect[0], rect[3]), (rect[2], rect[1]), GREY)
        elif at in listed:
            outline(page, rect, colour_of(listed.index(at)), record.data_type)
        else:
            page.frame(rect, PALE, 0.4)
    for number, at in enumerate(listed):
        rule = chosen.dropped_by[at]
        labels.append((f"{number + 1} {rule}", GREY) if rule else (str(number + 1), colour_of(number)))
    label_boxes(page, view, record, listed, labels)


def _rule_lines(chosen: Annotation, rules: FilterRules) -> list[Block]:
    """Each rule that is on, in its order, and how many boxes it drops here."""
    wants = {
        "image_side": f"shorter side of the image > {rules.min_image_side} px",
        "image_aspect": f"aspect ratio of the image at most {rules.image_aspect:g}"
        if rules.image_aspect
        else "",
        "box_aspect": f"aspect ratio of a box at most {rules.box_aspect:g}" if rules.box_aspect else "",
        "box_area": f"area of a box > {rules.min_box_area:,.0f} px²" if rules.min_box_area else "",
        "regions": f"at least {counted(rules.min_regions, 'box')} left",
    }
    blocks = []
    for rule in in_order(rules):
        dropped = chosen.dropped_by.count(rule.name)
        outcome = f"drops {counted(dropped, 'box')}" if dropped else "passed"
        text = f"{rule.name}: {wants.get(rule.name) or 'on'} – {outcome}"
        blocks.append(paragraph(text, _PANEL, 2, colour=INK if dropped else GREY))
    return blocks


def _middle(regions: Sequence[Region]) -> list[int]:
    """Position of the region of middle size; empty without regions. The largest is often the whole image."""

    def area(at: int) -> float:
        x1, y1, x2, y2 = regions[at].box
        return (x2 - x1) * (y2 - y1)

    return sorted(range(len(regions)), key=lambda at: (area(at), at))[len(regions) // 2 :][:1]


def _questions(chosen: Annotation) -> list[Block]:
    """The three forms of Sec. 3, the region's about the box of middle size among those kept."""
    record = chosen.record
    kept = [region for region, rule in zip(record.regions, chosen.dropped_by, strict=True) if rule is None]
    pairs = []
    if record.caption:
        pairs.append(("Global caption", GLOBAL_CAPTION_QUESTION, record.caption))
    for at in _middle(kept):
        box = format_box(kept[at].box, record.width, record.height)
        text = kept[at].text
        pairs.append(("Bbox2Caption", bbox2caption_question(box), text))
        pairs.append(("Caption2Bbox", caption2bbox_question(text), box))
    blocks = []
    for name, question, answer in pairs:
        blocks += [paragraph(name, _PANEL, size=8, weight="bold"), Block(1)]
        blocks += [
            tagged("Q", GREY, question, _PANEL, 4),
            tagged("A", "#1b7f4b", answer, _PANEL, 7),
            Block(6),
        ]
    return blocks
