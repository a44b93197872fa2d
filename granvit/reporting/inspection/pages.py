"""The pages of an inspection: counts and histograms on one, all images on another that a script searches.

They open from disk: the images' facts lie in a script beside them (`items.js`), since a page from disk may
read no other file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from granvit.config.data import Data
from granvit.config.schema import Report
from granvit.data.records.fingerprints import detail_hash
from granvit.data.records.images import UnreadableImage, decode_rgb
from granvit.data.records.records import readable_key
from granvit.errors import GranvitError
from granvit.files import remove_leftovers, whole_folder, write_json
from granvit.progress import Progress
from granvit.reporting.inspection.copies import find_copies
from granvit.reporting.inspection.findings import Findings, Histogram, histograms, plain
from granvit.reporting.inspection.reading import RawSource, Shards, Shown, chosen_keys
from granvit.reporting.inspection.seen import KEPT, Seen
from granvit.reporting.site.images import QUALITY
from granvit.reporting.site.writing import HERE, STYLE, Site

FACTS = "inspection.json"  # what tells a folder of these pages from others
_GROUPS = 60  # of duplicates that are shown on the first page
_MEMBERS = 12  # of each
_WIDTH, _HEIGHT = 320, 120  # of a histogram, px


def inspect(source: RawSource | Shards, name: str, data_type: str, data: Data, report: Report,
            out: str | Path, limit: int, notes: Iterable[str] = ()) -> Findings:  # fmt: skip
    """Look at ``limit`` images of a source at most, and write the pages into the folder ``out``.

    The folder appears when all of it is there; one that an inspection made before is replaced. Raises
    GranvitError for another folder of that name, for a source without images, and for damaged shards.
    """
    out = Path(out)
    if out.exists() and not (out / FACTS).is_file():
        raise GranvitError(f"{out}: is there, and no inspection made it; give another folder in --out")
    wanted, total, number = chosen_keys(source.keys(), limit)
    if not total:
        raise GranvitError(f"{name}: no images in {source.what}")
    remove_leftovers(out)
    with whole_folder(out) as folder:
        site = Site(folder)
        images = list(_looked_at(source.images(wanted), site, number, f"inspect {name}", report.image_side))
        copies = find_copies(images, data.contamination.max_distance)
        rules = data.filters.of(data_type)
        found = Findings(name, source.what, total, images, copies, histograms(images, rules), list(notes))
        _write(site, found, report.page, str(_rules(rules.model_dump())))
        write_json(folder / FACTS, found.as_json(), sort_keys=False)
        shutil.rmtree(out, ignore_errors=True)
    return found


def _looked_at(shown: Iterable[Shown], site: Site, number: int, label: str, side: int) -> Iterator[Seen]:
    """The images, each with its small copy written."""
    progress = Progress(number, label, "images")
    for at, (seen, data) in enumerate(shown):
        if data is not None:
            _draw(seen, data, site, at, side)
        progress.update(at + 1)
        yield seen


def _draw(seen: Seen, data: bytes, site: Site, at: int, side: int) -> None:
    try:
        image = decode_rgb(data)
    except UnreadableImage as error:  # of a shard that was damaged since
        seen.problem = str(error)
        return
    seen.detail = detail_hash(image)
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2)
    seen.picture, seen.size = f"images/{at:06d}.webp", image.size
    image.save(site.file(seen.picture), "WEBP", quality=QUALITY, method=0)


def _rules(rules: dict[str, Any]) -> str:
    boxes = ["box_aspect", "min_box_area"] if rules["box_rules"] else []
    shown = ["min_image_side", "image_aspect", *boxes, "min_regions"]
    return ", ".join(f"{name} {plain(rules[name])}" for name in shown if rules[name] is not None)


def _write(site: Site, found: Findings, page: int, rules: str) -> None:
    counts = found.as_json()
    shutil.copyfile(STYLE, site.file("style.css"))
    for name in ("inspect.css", "inspect.js"):
        shutil.copyfile(HERE / name, site.file(name))
    items = [_item(seen) for seen in found.images]
    # ASCII, and no < that could end a script: captions may hold anything
    text = json.dumps(items, separators=(",", ":")).replace("<", "\\u003c")
    site.file("items.js").write_text(f"const ITEMS = {text};\nconst PAGE = {page};\n", encoding="ascii")
    site.page(
        "index.html", "inspection", f"{found.name}: what is in it", [], found=found, counts=counts,
        rules=rules, bars=[(one, _bars(one)) for one in found.histograms], width=_WIDTH, height=_HEIGHT,
        images=_images_rows(counts["images"]), regions=list(counts["regions"].items()), kept=KEPT,
        groups=found.copies[:_GROUPS], members=_MEMBERS, readable_key=readable_key,
    )  # fmt: skip
    states = [(KEPT, "kept", counts["images"]["kept"])]
    states += [(rule, f"dropped: {rule}", n) for rule, n in counts["images"]["dropped"].items()]
    states += [(cause, f"cannot be read: {cause}", n) for cause, n in counts["images"]["unreadable"].items()]
    site.page("gallery.html", "inspection_gallery", f"{found.name}: the images", [], states=states,
              everything=len(found.images), copies=len(found.copies),
              lost=sum(bool(seen.lost) for seen in found.images))  # fmt: skip


def _images_rows(images: dict[str, Any]) -> list[tuple[str, str, int]]:
    """State, in words, number."""
    rows = [(KEPT, "kept", images["kept"])]
    rows += [(rule, f"dropped by the filter {rule}", n) for rule, n in images["dropped"].items()]
    return rows + [(cause, f"cannot be used: {cause}", n) for cause, n in images["unreadable"].items()]


def _item(seen: Seen) -> dict[str, Any]:
    """What the gallery's script knows of an image; without what is empty."""
    width, height = max(seen.width, 1), max(seen.height, 1)
    facts = {
        "key": readable_key(seen.key),
        "path": seen.path,
        "state": seen.state,
        "problem": seen.problem,
        "size": [seen.width, seen.height] if seen.width else None,
        "picture": [seen.picture, *seen.size] if seen.picture else None,
        "caption": seen.caption,
        "regions": [[*(round(x, 1) for x in part.box), part.text, part.dropped] for part in seen.parts],
        "turns": seen.turns,
        "lost": [f"{what}: {cause}" + (f" ({n})" if n > 1 else "") for (what, cause), n in seen.lost.items()],
        "copies": seen.copies,
        "thin": max(width, height) > 20 * min(width, height),
    }
    return {name: value for name, value in facts.items() if value}


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, in pixels of its picture; ``label`` and ``count`` in words."""

    x: float
    width: float
    height: float
    label: str
    count: int


def _bars(histogram: Histogram) -> dict[str, Any]:
    """The bars, and where limits stand: x of each that lies between the first edge and the last."""
    number, most = len(histogram.counts), max(histogram.counts)
    step = _WIDTH / number
    bars = [
        Bar(at * step, max(step - 1, 1), max(_HEIGHT * count / most, 1), histogram.label(at), count)
        for at, count in enumerate(histogram.counts)
        if count
    ]
    lines = [step * at for limit in histogram.limits if (at := _place(histogram.edges, limit)) is not None]
    marks = sorted({0, number // 2, number} if number > 3 else {0, number})
    anchors = {0: "start", number: "end"}
    ticks = [(step * at, plain(histogram.edges[at]), anchors.get(at, "middle")) for at in marks]
    return {"bars": bars, "limits": lines, "ticks": ticks, "plain": plain}


def _place(edges: list[float], value: float) -> float | None:
    """Where a value lies among the edges, in bars; None outside of them."""
    for at, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        if low <= value <= high:
            return at + (value - low) / (high - low)
    return None
