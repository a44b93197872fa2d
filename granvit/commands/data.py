"""``granvit data export | summary | boxes``, and with `own_data` ``inspect | new``."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from granvit.commands import own_data
from granvit.errors import GranvitError

_COUNTS = ("images", "captions", "regions", "turns")


def add_commands(groups: Any) -> None:
    """Add the group `data` to the command line."""
    group = groups.add_parser("data", help="sources, packed shards and mixtures")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    export = commands.add_parser("export", help="images and annotations for another framework")
    export.add_argument("inputs", nargs="+", metavar="SHARD", help="packed .tar or .parquet, or a mixture")
    export.add_argument("--out", metavar="OUT", help="folder to make (the last SHARD otherwise)")
    export.add_argument("--format", choices=["llava", "coco"], required=True)
    export.add_argument(
        "--source", action="append", default=[], metavar="NAME", help="images of this source alone; repeat it"
    )
    export.set_defaults(run=run_export)

    summary = commands.add_parser("summary", help="images, captions, regions and turns by source")
    summary.add_argument("indexes", nargs="+", metavar="SHARD", help="packed .tar or .parquet")
    summary.add_argument("--json", action="store_true", help="print JSON instead of a table")
    summary.set_defaults(run=run_summary)

    boxes = commands.add_parser("boxes", help="draw a source's boxes in every frame that they may stand in")
    boxes.add_argument("source", metavar="SOURCE", help="the name of a row of the sources file")
    boxes.add_argument("-n", type=int, default=20, metavar="NUMBER", help="images to draw (20)")
    boxes.add_argument("--sources", default="config/sources.tsv", metavar="TSV", help="the sources file")
    boxes.add_argument("--out", metavar="FOLDER", help="folder of the pictures (boxes-SOURCE)")
    boxes.set_defaults(run=run_boxes)
    own_data.add_commands(commands)


def run_export(arguments: argparse.Namespace) -> int:
    """Write the folder with its card, and say what is in it."""
    from granvit.data.mixtures.export import export

    inputs, out = arguments.inputs, arguments.out
    if out is None:
        *inputs, out = inputs
    if not inputs:
        raise GranvitError(f"export: one path alone, {out}; give shards or mixtures, and the folder in --out")
    number = export(inputs, out, arguments.format, sources=arguments.source)
    _write_card(arguments, inputs, Path(out))
    print(f"{out}: {number} images")
    return 0


def _write_card(arguments: argparse.Namespace, inputs: list[str], out: Path) -> None:
    """README.md, with what the project says of the sources, if this is its folder."""
    from granvit.config.loading import SCALES, load_config
    from granvit.data.sources.table import read_sources
    from granvit.files import write_text
    from granvit.reporting.dataset_card import contents, dataset_card

    found = contents(inputs, arguments.source)
    settings, rows = None, {}
    if Path("config/config.yaml").is_file():
        settings = load_config(found.scale if found.scale in SCALES else "paper").data
        rows = read_sources(settings.sources) if Path(settings.sources).is_file() else {}
    write_text(
        out / "README.md", str(dataset_card(out.resolve().name, arguments.format, found, rows, settings))
    )


def run_summary(arguments: argparse.Namespace) -> int:
    """Print the counts."""
    from granvit.data.mixtures.export import index_file

    counts: dict[str, Counter[str]] = {}
    for index in dict.fromkeys(map(index_file, arguments.indexes)):  # packed/Mine/* names each shard twice
        _count(index, counts)
    if arguments.json:
        print(json.dumps(counts, indent=2, ensure_ascii=False))
        return 0
    width = max([6, *map(len, counts)])
    print(f"{'source':{width}}" + "".join(f"{name:>12}" for name in _COUNTS))
    for source, of_source in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{source:{width}}" + "".join(f"{of_source[name]:12d}" for name in _COUNTS))
    return 0


def run_boxes(arguments: argparse.Namespace) -> int:
    """Draw, and print what speaks for which frame."""
    from dataclasses import replace

    from granvit.data.sources.draw_boxes import draw_boxes
    from granvit.data.sources.table import read_sources

    sources = read_sources(arguments.sources)
    if arguments.source not in sources:
        known = ", ".join(sources)
        raise GranvitError(f"{arguments.sources}: no source {arguments.source!r}; its sources are {known}")
    if arguments.n < 1:
        raise GranvitError(f"-n is {arguments.n}; give a number of images of at least 1")
    source = sources[arguments.source]
    source = replace(source, path=source.path.replace("{scale}", "mini"))  # rendered ones
    for line in draw_boxes(source, arguments.out or f"boxes-{source.name}", arguments.n):
        print(line)
    return 0


def _count(index: Path, counts: dict[str, Counter[str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from granvit.data.records.pack import REGION_COUNTS

    columns = ["source", "caption", REGION_COUNTS, "conversations.list.element.answer"]
    try:
        with pq.ParquetFile(index) as file:
            if not {"source", "caption", "regions", "conversations"} <= set(file.schema_arrow.names):
                raise GranvitError(f"{index}: not the index of a packed shard")
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    of_source = counts.setdefault(row["source"], Counter(dict.fromkeys(_COUNTS, 0)))
                    of_source["images"] += 1
                    of_source["captions"] += bool(row["caption"])
                    of_source["regions"] += len(row["regions"])
                    of_source["turns"] += len(row["conversations"])
    except (pa.ArrowInvalid, OSError) as error:
        raise GranvitError(f"{index}: cannot be read ({error}); give a packed shard's .parquet") from None
