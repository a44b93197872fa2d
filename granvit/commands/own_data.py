"""``granvit data inspect | new | benchmark``: looking at data of one's own, and asking about them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.commands.asked import positive, say
from granvit.errors import GranvitError

if TYPE_CHECKING:
    from granvit.config.schema import Config
    from granvit.data.sources.table import SourceSpec
    from granvit.reporting.inspection.reading import RawSource, Shards

_LIMIT = 1000  # open: images that are looked at
_QUESTIONS = 500  # open: of a task about a source, in a benchmark of one's own


def add_commands(commands: Any) -> None:
    """Add the commands to the group `data`."""
    inspect = commands.add_parser(
        "inspect", help="counts, histograms and a gallery of a source, or of a folder",
        epilog="example: granvit data inspect /data/photos; granvit data inspect Scenes --limit 200 --json",
    )  # fmt: skip
    inspect.add_argument("what", metavar="SOURCE|FOLDER", help="a row's name, or a folder")
    inspect.add_argument("--out", metavar="DIR", help="folder of the pages (inspect-NAME)")
    limit = f"look at so many images at most, chosen by the hash of their keys ({_LIMIT})"
    inspect.add_argument("--limit", type=int, default=_LIMIT, metavar="N", help=limit)
    inspect.add_argument("--sources", metavar="TSV", help="the sources file (all of config/)")
    inspect.add_argument("--scale", help="smoke | mini | small | paper: whose filters and shards")
    inspect.add_argument("--raw", action="store_true", help="the raw source, also where its shards are made")
    inspect.add_argument("--adapter", help="how a folder is read, where it holds several things")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of the counts")
    inspect.set_defaults(run=run_inspect)

    new = commands.add_parser(
        "new", help="a commented row of a sources file for a folder",
        epilog="example: granvit data new photos --out mine.tsv; granvit data new scans --out mine.tsv --add",
    )  # fmt: skip
    new.add_argument("folder", metavar="FOLDER", help="images, with what annotations lie beside them")
    new.add_argument("--name", help="the source's name (the folder's)")
    new.add_argument("--out", default="sources.tsv", metavar="TSV", help="the file to write (sources.tsv)")
    new.add_argument("--adapter", help="how the folder is read, where it holds several things")
    kept = new.add_mutually_exclusive_group()
    kept.add_argument("--add", action="store_true", help="put the row behind those of a file that is there")
    kept.add_argument("--force", action="store_true", help="replace a file that is there")
    new.set_defaults(run=run_new)

    benchmark = commands.add_parser(
        "benchmark", help="questions about held-out boxes, to ask with `granvit eval predict --list`",
        epilog="example: granvit data benchmark results/mini/data/mixtures/heldout.parquet --out mine",
    )  # fmt: skip
    benchmark.add_argument("mixture", metavar="MIXTURE", help="of held-out images: mixtures/heldout.parquet")
    benchmark.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    benchmark.add_argument("--name", default="Mine", help="how its files are called (Mine)")
    most = f"questions of a task about a source at most, chosen by hash ({_QUESTIONS})"
    benchmark.add_argument("--number", type=int, default=_QUESTIONS, metavar="N", help=most)
    benchmark.set_defaults(run=run_benchmark)


def run_inspect(arguments: argparse.Namespace) -> int:
    """Write the pages and print the counts."""
    from granvit.reporting.inspection.findings import text_lines
    from granvit.reporting.inspection.pages import inspect

    positive(arguments, "limit")
    config = _config(arguments)
    with _opened(arguments, config) as (images, name, data_type, notes):
        out = Path(arguments.out or f"inspect-{name}")
        found = inspect(images, name, data_type, config.data, config.report, out, arguments.limit, notes)
    page = out / "index.html"
    if arguments.json:
        print(json.dumps(found.as_json() | {"page": str(page)}, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*text_lines(found), f"look at {page}"]))
    return 0


def run_new(arguments: argparse.Namespace) -> int:
    """Write the row, and print it with its comments."""
    from granvit.data.sources.proposal import propose, write_rows

    _check_adapter(arguments.adapter)
    out = Path(arguments.out)
    if out.exists() and not (arguments.add or arguments.force):  # before a large folder is read
        raise GranvitError(f"{out}: is there already; --add adds the row to it, --force replaces it")
    proposal = propose(arguments.folder, arguments.name, arguments.adapter)
    write_rows(out, proposal, arguments.force, arguments.add)
    print("\n".join(proposal.lines()))
    say(f"written to {out}; look at it with `granvit data inspect {proposal.source.name} --sources {out}`")
    return 0


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Write the files, and say how to ask them."""
    from granvit.evaluation.own_benchmark import LIST, write_benchmark

    positive(arguments, "number")
    made = write_benchmark(arguments.mixture, arguments.out, arguments.name, arguments.number)
    for name, number in made.items():
        print(f"{name}: {number} questions")
    say(f"ask them with `granvit eval predict MODEL OUT --list {Path(arguments.out) / LIST}`")
    return 0


def _config(arguments: argparse.Namespace) -> Config:
    from granvit.config.loading import CONFIG_FILE, load_config
    from granvit.config.reading import read_yaml

    if not Path(CONFIG_FILE).is_file():
        raise GranvitError(f"{Path.cwd()}: there is no {CONFIG_FILE} here; run this in the project's folder")
    return load_config(arguments.scale or read_yaml(CONFIG_FILE)["scale"])


def _check_adapter(adapter: str | None) -> None:
    from granvit.data.sources.adapters import ADAPTERS

    known = [name for name in ADAPTERS if name != "urls"]  # which would fetch
    if adapter is not None and adapter not in known:
        raise GranvitError(f"--adapter {adapter}: there is no such adapter; they are {', '.join(known)}")


def _source(arguments: argparse.Namespace, config: Config) -> SourceSpec | None:
    """The row of that name; None where none has it."""
    from granvit.data.sources.table import read_sources

    if arguments.sources:
        return read_sources(arguments.sources).get(arguments.what)
    others = sorted(str(path) for path in Path("config").glob("sources*.tsv"))
    files = (tsv for tsv in dict.fromkeys([config.data.sources, *others]) if Path(tsv).is_file())
    return next((found for tsv in files if (found := read_sources(tsv).get(arguments.what))), None)


Opened = tuple["RawSource | Shards", str, str, list[str]]  # images, name, data type, notes


@contextmanager
def _opened(arguments: argparse.Namespace, config: Config) -> Iterator[Opened]:
    """What is meant: a row's shards where they are made, else its raw data; or a folder."""
    from granvit.data.sources.proposal import propose
    from granvit.reporting.inspection.reading import RawSource, Shards

    _check_adapter(arguments.adapter)
    source, folder = _source(arguments, config), Path(arguments.what)
    if source is None and not folder.is_dir():
        raise _neither(arguments, config)
    notes: list[str] = []
    if source is None:
        tars, data_type = _own_shards(folder)
        if tars and not arguments.adapter:
            with Shards(tars, config.data) as images:
                yield images, folder.resolve().name, data_type, notes
            return
        proposal = propose(folder, adapter=arguments.adapter)
        source = proposal.source
        notes += [*proposal.facts[1:3], *(f"undecided: {doubt}" for doubt in proposal.doubts)]
    else:
        source = replace(source, path=source.path.replace("{scale}", config.scale))
        packed = Path("results", config.scale, "data", "packed", source.name)
        tars = [packed / f"{shard}.tar" for shard in source.shard_names()]
        if not arguments.raw and all(tar.is_file() for tar in tars):
            with Shards(tars, config.data, source) as images:
                yield images, source.name, source.data_type, notes
            return
        source = _without_download(source)
    with RawSource(source, config.data) as images:
        if images.annotated_later:
            notes.append(f"boxes are still to come ({source.boxes}): only the filters on images apply")
        yield images, source.name, source.data_type, notes


def _own_shards(folder: Path) -> tuple[list[Path], str]:
    """The shards of this project in a folder, and the type of their data; none where its tars are others."""
    from granvit.data.records.shards import read_shard

    tars = sorted(folder.glob("*.tar"))
    try:
        return tars, next(read_shard(tars[0])).record.data_type
    except (GranvitError, StopIteration, IndexError):
        return [], ""


def _without_download(source: SourceSpec) -> SourceSpec:
    """A row of addresses as the tars that were fetched: to look at it starts no download. Raises GranvitError
    where none were."""
    if source.adapter != "urls":
        return source
    if not any(Path(source.path, "tars").glob("*.tar")):
        raise GranvitError(
            f"{source.row}: source {source.name!r}: none of its images is fetched yet, and to look starts no "
            f"download; make its shards first (`snakemake shards`), or give a folder"
        )
    return replace(source, adapter="tars", options="files=tars/*.tar")


def _neither(arguments: argparse.Namespace, config: Config) -> GranvitError:
    from granvit.config.reading import nearest
    from granvit.data.sources.table import read_sources

    tsv = arguments.sources or config.data.sources
    known = read_sources(tsv)
    return GranvitError(
        f"{arguments.what}: neither a folder nor a source of {tsv}{nearest(arguments.what, known)}; its "
        f"sources are {', '.join(known)}"
    )
