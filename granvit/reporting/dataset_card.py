"""The card of data that leave the project (README.md of an exported folder), made from the shards' own
records and counts: sources and their licences, how they were made, filters, limits."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from granvit.config.data import Data
from granvit.data.mixtures.export import index_file, source_of
from granvit.data.mixtures.mixture import REGION_TASKS, index_rows
from granvit.data.sources.table import SourceSpec
from granvit.reporting.markdown import table

COUNTED = ("images", "captions", "regions", "turns")
USES = {
    "coco": "`instances.json` is COCO's: boxes as x, y, width, height in pixels, each text in `caption`.",
    "llava": "`conversations.json` is LLaVA's: a list of conversations, each about one of `images/`.",
}
LIMITS = (
    "Boxes are on the image as shown: a reader that ignores EXIF's orientation has to apply it first.",
    "The images and texts stay under the terms of their sources; nobody has asked their authors again.",
    "Texts and boxes that a model made hold its mistakes; nobody has looked at all of them.",
)


@dataclass
class Contents:
    """What an export holds: ``counts`` of each source, and the ``shards`` (.tar) that it came from."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    shards: dict[Path, str] = field(default_factory=dict)

    @property
    def scale(self) -> str:
        """What the results' folder is called that the shards lie in."""
        return next((shard.parents[3].name for shard in self.shards if len(shard.parents) > 3), "")


def contents(inputs: Sequence[str | Path], sources: Collection[str] = ()) -> Contents:
    """Counts of shards and mixtures, of ``sources`` alone where some are named. A mixture's captions, regions
    and turns are the questions about them."""
    found = Contents()
    for path in map(index_file, inputs):
        for row in index_rows(path):
            name = source_of(row["key"])
            if sources and name not in sources:
                continue
            found.shards[Path(row["shard"]).resolve()] = name
            found.counts.setdefault(name, Counter()).update(_counted(row))
    return found


def _counted(row: Mapping) -> dict[str, int]:
    if "qa" in row:
        tasks = Counter(question["task"] for question in row["qa"])
        regions = sum(tasks[name] for name in REGION_TASKS)
        captions = tasks["global_caption"]
        return dict(zip(COUNTED, (1, captions, regions, tasks.total() - captions - regions), strict=True))
    held = (1, bool(row["caption"]), len(row["regions"]), len(row["conversations"]))
    return dict(zip(COUNTED, map(int, held), strict=True))


def dataset_card(
    name: str, form: str, found: Contents, rows: Mapping[str, SourceSpec], settings: Data | None
) -> DatasetCard:
    """The card of the folder ``name``. ``rows``: of the sources file, for licences and origins; ``settings``:
    of the scale that the shards are of, for the annotators' names; both empty where they are not known."""
    data = DatasetCardData(license="other", license_name="licences-of-its-sources", tags=["granvit", form])
    images = sum(counts["images"] for counts in found.counts.values())
    body = [
        f"# {name}",
        f"{images} images of {len(found.counts)} sources, exported by `granvit data export --format {form}`.",
        USES[form],
        "## Sources and their licences",
        table(["source", "licence", "origin", *COUNTED], _sources(found, rows), 3),
        "## How they were made",
        table(["source", "boxes", "captions", "texts"], [_made(n, rows, settings) for n in found.counts], 4),
        *_filters(found),
        "## Limits",
        "\n".join(f"- {line}" for line in LIMITS),
    ]
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part.strip() for part in body) + "\n")


def _sources(found: Contents, rows: Mapping[str, SourceSpec]) -> list[list[str]]:
    lines = []
    for name, counts in found.counts.items():
        row = rows.get(name)
        said = [(words or "unknown").replace("|", "/") for words in (row and row.licence, row and row.origin)]
        lines.append([name, *said, *(str(counts[of]) for of in COUNTED)])
    return lines


def _made(name: str, rows: Mapping[str, SourceSpec], settings: Data | None) -> list[str]:
    row = rows.get(name)
    if row is None:
        return [name, "unknown", "unknown", "unknown"]
    models = {} if settings is None else {
        "detector": settings.detector.model,
        "captioner": settings.captioner.model,
        "ocr": f"{settings.ocr.detection}, {settings.ocr.recognition}",
    }  # fmt: skip
    words = {"given": "given by the source", "none": "none"}
    ways = (row.boxes, row.captions, row.text)
    return [name, *(words.get(way) or (f"{way} ({models[way]})" if way in models else way) for way in ways)]


def _filters(found: Contents) -> list[str]:
    """What the filters took from the shards that were exported, by the counts beside these; nothing where
    they are gone."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    names = ("images_in", "images_out", "regions_in", "regions_out")
    for shard, source in found.shards.items():
        file = shard.parent.parent.parent / "filtered" / shard.parent.name / f"{shard.stem}.counts.csv"
        for row in _rows(file):
            if row["mode"] == "sequence":
                counts = sums.setdefault((source, row["rule"]), Counter())
                counts.update({name: int(row[name]) for name in names})
    if not sums:
        return []
    lines = [[*key, *(str(counts[name]) for name in names)] for key, counts in sums.items()]
    note = "In their order, over the whole shards that images were taken from; `all` is the outcome."
    header = ["source", "rule", "images in", "images out", "regions in", "regions out"]
    return ["## Filters", note, table(header, lines, 2)]


def _rows(file: Path) -> Iterable[dict[str, str]]:
    if not file.is_file():
        return []
    with open(file, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
