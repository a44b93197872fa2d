"""Pictures of a source's boxes in every frame that they may stand in, for a person to see which one is right.

Nothing in the data says what a box is a fraction of (``turn_boxes``) or which corner comes first
(``box_formats``): a few pictures do, and it is cheaper to look at them than to train on wrong boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageDraw

from granvit.boxes import Box
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Rejected
from granvit.data.sources.box_formats import BoxFits, in_pixels
from granvit.data.sources.catalogue import catalogue_source, read_catalogue
from granvit.data.sources.items import RawItem
from granvit.data.sources.places import ImagePlaces
from granvit.data.sources.table import SourceSpec
from granvit.data.sources.turn_boxes import FRAMES, TurnBoxes, boxes_of, in_frame
from granvit.errors import GranvitError

_SIDE = 512  # pixels of a panel's longer side
_COUNTED = 200  # images whose boxes are counted, beside those that are drawn
_COLOURS = ("#c8102e", "#1f5fa8", "#1b7f4b", "#9a5b00", "#7b2fa0")
_TITLE = 16  # pixels of height


def draw_boxes(source: SourceSpec, out: str | Path, number: int) -> list[str]:
    """Draw the boxes of ``number`` images of a source, one PNG an image, into the folder ``out``; lines for
    people about what was drawn, and what speaks for which frame.

    Boxes in questions and answers are drawn in each of FRAMES, side by side; regions as the row reads them.
    Raises GranvitError for a source without images, boxes or data, or a folder that cannot be written.
    """
    out = Path(out)
    fits, turn_boxes, drawn = BoxFits(source.box_format), TurnBoxes(source.turn_boxes), 0
    for item, image in islice(_images_with_boxes(source), max(number, _COUNTED)):
        for region in item.regions:
            fits.add(region.box, *image.size)
        turn_boxes.read(item.conversations, *image.size, [])
        if drawn < number:
            drawn += 1
            _save(_panels(source, item, image), out / f"{drawn:03d}.png")
    if not drawn:
        raise GranvitError(
            f"source {source.name!r}: no image with a box was found in {source.path}; boxes in turns are "
            "four numbers of 0-1 in brackets, such as [0.19, 0.756, 0.417, 0.888]"
        )
    return [f"{out}: {drawn} images", *_evidence(source, fits, turn_boxes)]


def _evidence(source: SourceSpec, fits: BoxFits, turn_boxes: TurnBoxes) -> Iterator[str]:
    if turn_boxes.told:
        yield (
            f"of {turn_boxes.told} boxes in turns about images that are not square, {turn_boxes.in_padding} "
            f"would lie in the padding of a padded square; the row reads them as {source.turn_boxes}"
        )
    counts = fits.counts()
    if any(counts.values()):
        listed = ", ".join(f"{form} {count}" for form, count in counts.items())
        yield f"regions that lie on their images, by format: {listed}; the row reads {source.box_format}"


def _images_with_boxes(source: SourceSpec) -> Iterator[tuple[RawItem, Image.Image]]:
    with TemporaryDirectory() as folder, ImagePlaces(source.root) as places:
        catalogue = Path(folder) / "catalogue.sqlite"
        catalogue_source(source, catalogue)
        for shard in range(source.shards):
            for _, item, _ in read_catalogue(catalogue, shard):
                if item.place and (item.regions or any(_turn_texts(item))):
                    try:
                        image = decode_rgb(places.read(item.place))
                    except Rejected:
                        continue
                    yield item, image


def _turn_texts(item: RawItem) -> Iterator[tuple[str, Box]]:
    """The boxes of an item's turns, each with the text beside it."""
    for turn in item.conversations:
        for text, other in ((turn.question, turn.answer), (turn.answer, turn.question)):
            for box in boxes_of(text):
                yield other, box


def _panels(source: SourceSpec, item: RawItem, image: Image.Image) -> Image.Image:
    """One panel a frame for the boxes of turns, and one for the regions."""
    size = image.size
    panels = []
    if turns := list(_turn_texts(item)):
        for frame in FRAMES:
            chosen = " (the row's)" if frame == source.turn_boxes else ""
            boxes = [(text, in_frame(box, frame, *size)) for text, box in turns]
            panels.append(_panel(image, f"turn_boxes={frame}{chosen}", boxes))
    if item.regions:
        boxes = [(r.text or "", in_pixels(r.box, source.box_format, *size)) for r in item.regions]
        panels.append(_panel(image, f"box_format={source.box_format}", boxes))
    page = Image.new("RGB", (sum(panel.width for panel in panels), panels[0].height), "white")
    left = 0
    for panel in panels:
        page.paste(panel, (left, 0))
        left += panel.width
    return page


def _panel(image: Image.Image, title: str, boxes: list[tuple[str, Box]]) -> Image.Image:
    scale = _SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    panel = Image.new("RGB", (width, height + _TITLE), "white")
    panel.paste(image.resize((width, height)), (0, _TITLE))
    drawing = ImageDraw.Draw(panel)
    drawing.text((2, 2), title, fill="black")
    for number, (text, box) in enumerate(boxes):
        colour = _COLOURS[number % len(_COLOURS)]
        x1, y1, x2, y2 = (value * scale for value in box)
        x1, x2 = sorted((x1, x2))
        y1, y2 = sorted((y1 + _TITLE, y2 + _TITLE))
        drawing.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        drawing.text((max(x1, 0) + 3, max(y1, _TITLE) + 2), _latin(text)[:60], fill=colour)
    return panel


def _latin(text: str) -> str:
    """What the built-in font can write."""
    return " ".join(text.encode("latin-1", "replace").decode("latin-1").split())


def _save(page: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.save(path)
    except OSError as error:
        raise GranvitError(
            f"{path}: cannot be written ({error.strerror}); name another folder in --out"
        ) from error
