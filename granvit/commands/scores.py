"""``granvit eval score | compare | table``: what predictions are worth, without the model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from granvit.commands.asked import asked, check_named, common, judge_of, judging, reading_form, say
from granvit.errors import GranvitError

if TYPE_CHECKING:
    from granvit.evaluation.benchmarks import Benchmark


def add_commands(commands: Any) -> None:
    """Add the commands to the group `eval`."""
    score = commands.add_parser("score", help="scores from predictions, without the model")
    score.add_argument("predictions", nargs="*", help="folders of {benchmark}.jsonl")
    score.add_argument("--table", help="all predictions behind a table (table1, ...) instead of folders")
    score.add_argument("--seed", type=int, default=0, help="with --table: which runs")
    score.add_argument("--results", default="results", help="with --table: folder that holds {scale}/")
    score.add_argument("--check", action="store_true", help="with --table: exit 1 if a number differs")
    score.add_argument("--write", action="store_true", help="with --table: write scores and verdicts anew")
    score.add_argument("--out", help="with one folder: write {benchmark}.json there")
    score.add_argument("--verdicts", help="with one folder: write {benchmark}.jsonl there, a line a question")
    score.add_argument("--json", action="store_true", help="print score files instead of a table")
    judging(score)
    reading_form(score)
    common(score)
    score.set_defaults(run=run_score)

    compare = commands.add_parser("compare", help="which differences of two models mean something")
    compare.add_argument("a", help="folder of {benchmark}.jsonl")
    compare.add_argument("b", help="another, on the same benchmarks")
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    judging(compare)
    reading_form(compare)
    common(compare)
    compare.set_defaults(run=run_compare)

    table = commands.add_parser("table", help="scores of several folders of predictions side by side")
    table.add_argument("predictions", nargs="+", help="folders of {benchmark}.jsonl, or NAME=FOLDER")
    table.add_argument("--out", help="write .csv, .md or .xlsx instead of printing Markdown")
    judging(table)
    reading_form(table)
    common(table)
    table.set_defaults(run=run_table)


def run_score(arguments: argparse.Namespace) -> int:
    """Print scores, write them, or hold them against those on disk. Raises GranvitError for options that do
    not go together.
    """
    if bool(arguments.table) == bool(arguments.predictions):
        raise GranvitError("granvit eval score: give folders of predictions, or --table; see --help")
    for name in ("out", "verdicts"):
        if getattr(arguments, name) and len(arguments.predictions) != 1:
            raise GranvitError(f"granvit eval score: --{name} takes the scores of one folder of predictions")
    if (arguments.check or arguments.write) and not arguments.table:
        raise GranvitError("granvit eval score: --check and --write need --table")
    if arguments.table and (arguments.limit or arguments.format != "granvit"):
        raise GranvitError("granvit eval score: --limit and --format take folders, not --table")
    return _score_table(arguments) if arguments.table else _score_folders(arguments)


@contextmanager
def _answers(
    arguments: argparse.Namespace, folder: str, benchmarks: Sequence[Benchmark], data: str
) -> Iterator[tuple[Path, list[Benchmark]]]:
    """A folder's predictions as this project's files, and the benchmarks that it has some of; those of other
    toolkits lie in a temporary folder.

    Raises GranvitError where it has none, or none of a benchmark that was asked for by name.
    """
    from granvit.evaluation.foreign import convert

    with TemporaryDirectory() as temporary:
        if arguments.format == "granvit":
            place = Path(folder)
            made = [one for one in benchmarks if (place / f"{one.slug}.jsonl").is_file()]
            _name_strangers(place, arguments.list)
        else:
            place = Path(temporary)
            made = convert(folder, arguments.format, benchmarks, data, place, arguments.limit)
        if not made and not arguments.benchmarks:
            like = "MMStar.jsonl" if arguments.format == "granvit" else f"those of {arguments.format}"
            raise GranvitError(f"{folder}: no predictions there; expected files like {like}")
        check_named(arguments, folder, benchmarks, made)
        yield place, made


def _name_strangers(folder: Path, listed: str | None) -> None:
    """Say which files of predictions belong to no benchmark: a name may be misspelt."""
    from granvit.evaluation.benchmarks import LIST, load_benchmarks

    known = {benchmark.slug for benchmark in load_benchmarks(listed or LIST)}
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in known:
            say(f"{path}: not scored, {listed or LIST} has no benchmark of that name")


def _score_folders(arguments: argparse.Namespace) -> int:
    from granvit.evaluation.benchmarks import slug
    from granvit.evaluation.score import score
    from granvit.files import write_json

    settings, benchmarks, data = asked(arguments)
    judge, content = judge_of(arguments, settings), {}
    for place in filter(None, (arguments.out, arguments.verdicts)):
        Path(place).mkdir(parents=True, exist_ok=True)  # before the work, lest it be lost
    for folder in arguments.predictions:
        content[folder] = scores = {}
        with _answers(arguments, folder, benchmarks, data) as (place, made):
            for one in made:
                file = place / f"{one.slug}.jsonl"
                lines = Path(arguments.verdicts) / file.name if arguments.verdicts else None
                scores[one.name] = score(file, one, data, judge, say, lines, arguments.limit)
        if not arguments.json:
            print(f"{folder}\n{_score_lines(scores)}")
        for name, found in scores.items() if arguments.out else ():
            write_json(Path(arguments.out) / f"{slug(name)}.json", found, sort_keys=False)
    if arguments.json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0


def _score_table(arguments: argparse.Namespace) -> int:
    from granvit.config.tables import load_tables
    from granvit.reporting.recompute import compare_cells, recompute_table

    (settings, benchmarks, data), tables = asked(arguments), load_tables()
    if arguments.table not in tables:
        raise GranvitError(
            f"config/tables.yaml: there is no table '{arguments.table}'; it has {', '.join(tables)}"
        )
    results = Path(arguments.results) / settings.scale
    text, differences = recompute_table(
        tables[arguments.table], benchmarks, data, results, settings.scale, arguments.seed,
        judge_of(arguments, settings), say, arguments.write,
    )  # fmt: skip
    print(text, end="")
    if not arguments.check:
        return 0
    differences += compare_cells(results / "tables" / f"{arguments.table}.csv", text)
    copy = Path(arguments.results) / f"{arguments.table}.csv"
    if copy.is_file() and copy.read_text(encoding="utf-8").rstrip().endswith(f",{settings.scale}"):
        differences += compare_cells(copy, text)
    for line in differences:
        say(line)
    say(f"{arguments.table}: {len(differences)} numbers on disk differ from those recomputed")
    return int(bool(differences))


def run_compare(arguments: argparse.Namespace) -> int:
    """Print a minus b per benchmark, with the paired bootstrap's 95 % interval, and who read the answers.
    Raises GranvitError where the folders have no benchmark in common.
    """
    from granvit.evaluation.score import mark
    from granvit.evaluation.uncertainty import paired_difference

    (settings, benchmarks, data), rows = asked(arguments), []
    judge = judge_of(arguments, settings)
    with (
        _answers(arguments, arguments.a, benchmarks, data) as (a_place, in_a),
        _answers(arguments, arguments.b, benchmarks, data) as (b_place, in_b),
    ):
        for benchmark in (one for one in in_a if one in in_b):
            in_both = (
                mark(place / f"{benchmark.slug}.jsonl", benchmark, data, judge, say, arguments.limit)
                for place in (a_place, b_place)
            )
            (a, a_facts), (b, b_facts) = ((one.scored, one.facts) for one in in_both)
            found = paired_difference(a.points, b.points)
            rows.append({
                "benchmark": benchmark.name, "a": a.score, "b": b.score, "difference": a.full * found.mean,
                "interval": [a.full * found.low, a.full * found.high], "clear": found.is_clear, "n": a.n,
                "judge": [a_facts["judge"], b_facts["judge"]],
            })  # fmt: skip
    if not rows:
        raise GranvitError(f"{arguments.a}, {arguments.b}: no benchmark has predictions in both folders")
    print(json.dumps(rows, indent=2) if arguments.json else _comparison(arguments, rows))
    return 0


def _comparison(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    lines = [f"a: {arguments.a}", f"b: {arguments.b}"]
    lines.append(
        f"{'benchmark':16}{'a':>9}{'b':>9}{'a - b':>9}  {'95 % interval':20}{'questions':>9}         judge"
    )
    for row in rows:
        interval = "[{:+.2f}, {:+.2f}]".format(*row["interval"])
        judges = " | ".join(dict.fromkeys(row["judge"]))
        lines.append(
            f"{row['benchmark']:16}{row['a']:9.2f}{row['b']:9.2f}{row['difference']:+9.2f}  {interval:20}"
            f"{row['n']:9d}  {'clear' if row['clear'] else '':5}  {judges}"
        )
    return "\n".join([*lines, "clear: the interval leaves out 0. One row in twenty is clear by chance."])


def _score_lines(scores: dict[str, dict[str, Any]]) -> str:
    lines = [f"  {'benchmark':16}{'score':>9}  {'95 % interval':20}{'n':>6}{'unread':>8}  judge"]
    for name, score in scores.items():
        low, high = score["interval"]
        interval, share = f"[{low:.2f}, {high:.2f}]", score["failed_extractions"]
        unread = "-" if share is None else f"{100 * share:.1f} %"
        lines.append(
            f"  {name:16}{score['score']:9.2f}  {interval:20}{score['n']:6d}{unread:>8}  {score['judge']}"
        )
    return "\n".join(lines)


def run_table(arguments: argparse.Namespace) -> int:
    """Print or write a table with a row a benchmark and a column a folder. Raises GranvitError for a file of
    another kind, and where two columns would have one name.
    """
    from granvit.evaluation.score import score
    from granvit.reporting.side_by_side import check_kind, render, write

    settings, benchmarks, data = asked(arguments)
    if arguments.out:
        check_kind(arguments.out)
    judge, columns = judge_of(arguments, settings), {}
    for given in arguments.predictions:
        named = "=" in given and not Path(given).is_dir()
        name, _, folder = given.partition("=") if named else (given, "", given)
        if name in columns:
            raise GranvitError(f"granvit eval table: two columns are called '{name}'; give NAME=FOLDER")
        with _answers(arguments, folder, benchmarks, data) as (place, made):
            columns[name] = {
                one.name: score(place / f"{one.slug}.jsonl", one, data, judge, say, None, arguments.limit)
                for one in made
            }
    if arguments.out:
        write(arguments.out, columns, benchmarks)
        print(arguments.out)
    else:
        print(render(columns, benchmarks), end="")
    return 0
