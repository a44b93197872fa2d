"""Pascal VOC's layout: one XML file of objects an image, as labelImg and others write it, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from granvit.data.records.records import Region, Reject, Rejected
from granvit.data.sources.adapters.entries import read_small
from granvit.data.sources.adapters.file_kinds import is_junk
from granvit.data.sources.adapters.folder import below, image_files, walk
from granvit.data.sources.items import Place, RawItem, add_regions, box, size, text

OPTIONS = {
    "images": "the folder of images (JPEGImages)",
    "annotations": "the folder of XML files, which may be that of the images (Annotations)",
    "first_pixel": "the number of an image's first pixel: 1 as in VOC, or 0 for corners that begin at 0 (1)",
    "difficult": "objects that are marked as difficult: leave_out, or keep (leave_out)",
}


def read_voc(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``Annotations/NAME.xml`` for ``JPEGImages/NAME.jpg`` at any depth; ``filename`` inside is not read,
    since tools write their own machine's into it. An object's ``name`` is its region's text.

    VOC counts pixels from 1 and names the last one inside, so that ``1, 1, 500, 375`` is a whole image of
    500 x 375. An XML file that cannot be read, or that declares entities, is a reject of its image's regions:
    ``broken_annotations``; a difficult object is one, too: ``difficult_object``.
    """
    root = Path(root)
    images, annotations = settings.get("images", "JPEGImages"), settings.get("annotations", "Annotations")
    first, keep = int(settings.get("first_pixel", "1")), settings.get("difficult") == "keep"
    for name, problem in image_files(root / images):
        stem = name if problem else os.path.splitext(name)[0]
        yield RawItem(stem, Place(below(images, name), problem=problem))
    for place, names in walk(root / annotations):
        for stem, suffix in map(os.path.splitext, names):
            if suffix.lower() == ".xml" and not is_junk(stem):
                item = RawItem(below(place, stem), None, joins=True)
                _describe(item, root / annotations / place / (stem + suffix), first, keep)
                yield item


def _describe(item: RawItem, path: Path, first: int, keep: bool) -> None:
    try:
        tree = parse_xml(read_small(path))
        if tree.tag != "annotation":
            raise Rejected("broken_annotations")
    except (Rejected, OSError):
        item.rejects.append(Reject("region", "broken_annotations", 1))
        return
    item.stated_size = size(_number(tree, "size/width"), _number(tree, "size/height"))
    add_regions(item, tree.findall("object"), lambda found: _region(found, first, keep))


def _region(found: Element, first: int, keep: bool) -> Region:
    if not keep and (found.findtext("difficult") or "").strip() == "1":
        raise Rejected("difficult_object")
    corners = [_number(found, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = box(corners)
    return Region([x1 - first, y1 - first, x2, y2], text(found.findtext("name")) or "")


def _number(element: Element, path: str) -> float | None:
    try:
        return float(element.findtext(path) or "")
    except ValueError:
        return None


def parse_xml(data: bytes) -> Element:
    """The root of an XML document. Raises Rejected ``broken_annotations`` for one that is none, and for one
    that declares entities, which can name files or grow to gigabytes."""
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # also an encoding that there is not
        raise Rejected("broken_annotations") from error
    return builder.close()


def _refuse(*_: object) -> None:
    raise Rejected("broken_annotations")
