"""``granvit eval predict | score | export | compare``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.errors import GranvitError

if TYPE_CHECKING:
    from granvit.evaluation.benchmarks import Benchmark
    from granvit.evaluation.judge import Judge


def add_commands(groups: Any) -> None:
    """Add the group `eval` to the command line."""
    group = groups.add_parser("eval", help="answers, scores and comparisons on the benchmarks")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    predict = commands.add_parser("predict", help="ask a trained model the benchmarks")
    predict.add_argument("model", help="model folder: results/{scale}/sft/{recipe}/seed{N}/model")
    predict.add_argument("out", help="folder for {benchmark}.jsonl; a killed job goes on from what is there")
    predict.add_argument("--device", help="auto | cpu | cuda | npu (default: the configuration's)")
    predict.add_argument("--devices", type=int, default=1, help="processes, one a device")
    predict.add_argument("--batch-size", type=int, help="questions answered at a time")
    predict.add_argument("--shuffle-images", action="store_true", help="show other images: chance level")
    _common(predict)
    predict.set_defaults(run=run_predict)

    score = commands.add_parser("score", help="scores from predictions, without the model")
    score.add_argument("predictions", nargs="*", help="folders of {benchmark}.jsonl")
    score.add_argument("--table", help="all predictions behind a table (table1, ...) instead of folders")
    score.add_argument("--seed", type=int, default=0, help="with --table: which runs")
    score.add_argument("--results", default="results", help="with --table: folder that holds {scale}/")
    score.add_argument("--check", action="store_true", help="with --table: exit 1 if a number differs")
    score.add_argument("--write", action="store_true", help="with --table: write the score files anew")
    score.add_argument("--out", help="with one folder: write {benchmark}.json there")
    score.add_argument("--json", action="store_true", help="print score files instead of a table")
    score.add_argument("--judge-url", help="address of an OpenAI-compatible endpoint, up to and with /v1")
    score.add_argument("--judge-model", help="the model that it is asked for; its key: $GRANVIT_JUDGE_KEY")
    _common(score)
    score.set_defaults(run=run_score)

    export = commands.add_parser("export", help="predictions for another toolkit to score")
    export.add_argument("predictions", help="folder of {benchmark}.jsonl")
    export.add_argument("out", help="folder for {model}_{dataset}.tsv")
    export.add_argument("--format", choices=["vlmevalkit"], required=True)
    export.add_argument("--model-name", default="granvit", help="the model's name in that toolkit")
    _common(export)
    export.set_defaults(run=run_export)

    compare = commands.add_parser("compare", help="which differences of two models mean something")
    compare.add_argument("a", help="folder of {benchmark}.jsonl")
    compare.add_argument("b", help="another, on the same benchmarks")
    compare.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _common(compare)
    compare.set_defaults(run=run_compare)


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--scale", help="smoke | mini | paper (default: that of config/config.yaml)")
    command.add_argument("--data", help="folder of the benchmarks' TSV files (default: the scale's)")
    command.add_argument("--benchmarks", help="only these, by name, separated by commas")


def run_predict(arguments: argparse.Namespace) -> int:
    """Ask a model; the one command here that needs torch."""
    from granvit.evaluation.asks import PredictionJob
    from granvit.evaluation.launch import predict_on_devices

    settings, benchmarks, data = _asked(arguments)
    job = PredictionJob(
        model_dir=Path(arguments.model),
        benchmarks=benchmarks,
        data_dir=Path(data),
        out_dir=Path(arguments.out),
        batch_size=arguments.batch_size or settings.evaluation.batch_size,
        device=arguments.device or settings.compute.device,
        shuffle_images=arguments.shuffle_images,
    )
    predict_on_devices(job, arguments.devices)
    return 0


def run_score(arguments: argparse.Namespace) -> int:
    """Print scores, write them, or hold them against those on disk. Raises GranvitError for options that do
    not go together.
    """
    if bool(arguments.table) == bool(arguments.predictions):
        raise GranvitError("granvit eval score: give folders of predictions, or --table; see --help")
    if arguments.out and len(arguments.predictions) != 1:
        raise GranvitError("granvit eval score: --out takes the scores of one folder of predictions")
    if (arguments.check or arguments.write) and not arguments.table:
        raise GranvitError("granvit eval score: --check and --write need --table")
    return _score_table(arguments) if arguments.table else _score_folders(arguments)


def _score_folders(arguments: argparse.Namespace) -> int:
    from granvit.evaluation.benchmarks import slug
    from granvit.files import write_json
    from granvit.reporting.recompute import scores_of_folder

    settings, benchmarks, data = _asked(arguments)
    judge, content = _judge(arguments, settings), {}
    for folder in arguments.predictions:
        content[folder] = scores = scores_of_folder(Path(folder), benchmarks, data, judge, _say)
        if not arguments.json:
            print(f"{folder}\n{_score_lines(scores)}")
        for name, score in scores.items() if arguments.out else ():
            write_json(Path(arguments.out) / f"{slug(name)}.json", score, sort_keys=False)
    if arguments.json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    return 0


def _score_table(arguments: argparse.Namespace) -> int:
    from granvit.config.tables import load_tables
    from granvit.reporting.recompute import compare_cells, recompute_table

    (settings, benchmarks, data), tables = _asked(arguments), load_tables()
    if arguments.table not in tables:
        raise GranvitError(
            f"config/tables.yaml: there is no table '{arguments.table}'; it has {', '.join(tables)}"
        )
    results = Path(arguments.results) / settings.scale
    text, differences = recompute_table(
        tables[arguments.table], benchmarks, data, results, settings.scale, arguments.seed,
        _judge(arguments, settings), _say, arguments.write,
    )  # fmt: skip
    print(text, end="")
    if not arguments.check:
        return 0
    differences += compare_cells(results / "tables" / f"{arguments.table}.csv", text)
    copy = Path(arguments.results) / f"{arguments.table}.csv"
    if copy.is_file() and copy.read_text(encoding="utf-8").rstrip().endswith(f",{settings.scale}"):
        differences += compare_cells(copy, text)
    for line in differences:
        _say(line)
    _say(f"{arguments.table}: {len(differences)} numbers on disk differ from those recomputed")
    return int(bool(differences))


def run_export(arguments: argparse.Namespace) -> int:
    """Write the files and name them."""
    from granvit.evaluation.export import export_vlmevalkit

    _, benchmarks, data = _asked(arguments)
    print(
        *export_vlmevalkit(arguments.predictions, benchmarks, data, arguments.out, arguments.model_name),
        sep="\n",
    )
    return 0


def run_compare(arguments: argparse.Namespace) -> int:
    """Print a minus b per benchmark, with the paired bootstrap's 95 % interval. Raises GranvitError where the
    folders have no benchmark in common.
    """
    from granvit.evaluation.score import evaluate
    from granvit.evaluation.uncertainty import paired_difference

    (_, benchmarks, data), rows = _asked(arguments), []
    for benchmark in benchmarks:
        files = [Path(folder) / f"{benchmark.slug}.jsonl" for folder in (arguments.a, arguments.b)]
        if not all(file.is_file() for file in files):
            continue
        a, b = (evaluate(file, benchmark, data)[0] for file in files)
        found = paired_difference(a.points, b.points)
        rows.append({
            "benchmark": benchmark.name, "a": a.score, "b": b.score, "difference": a.full * found.mean,
            "interval": [a.full * found.low, a.full * found.high], "clear": found.is_clear, "n": a.n,
        })  # fmt: skip
    if not rows:
        raise GranvitError(f"{arguments.a}, {arguments.b}: no benchmark has predictions in both folders")
    print(json.dumps(rows, indent=2) if arguments.json else _comparison(arguments, rows))
    return 0


def _comparison(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    lines = [f"a: {arguments.a}", f"b: {arguments.b}"]
    lines.append(f"{'benchmark':16}{'a':>9}{'b':>9}{'a - b':>9}  {'95 % interval':20}{'questions':>9}")
    for row in rows:
        interval = "[{:+.2f}, {:+.2f}]".format(*row["interval"])
        lines.append(
            f"{row['benchmark']:16}{row['a']:9.2f}{row['b']:9.2f}{row['difference']:+9.2f}  {interval:20}"
            f"{row['n']:9d}{'  clear' if row['clear'] else ''}"
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


def _asked(arguments: argparse.Namespace) -> tuple[Any, list[Benchmark], str]:
    """The scale's settings, the benchmarks that are meant, and the folder of their files."""
    from granvit.config.loading import CONFIG_FILE, load_config
    from granvit.config.reading import read_yaml
    from granvit.evaluation.benchmarks import find_benchmark, load_benchmarks

    settings = load_config(arguments.scale or read_yaml(CONFIG_FILE)["scale"])
    benchmarks = load_benchmarks()
    if arguments.benchmarks:
        benchmarks = [find_benchmark(benchmarks, name) for name in arguments.benchmarks.split(",")]
    return settings, benchmarks, arguments.data or settings.data.benchmarks


def _judge(arguments: argparse.Namespace, settings: Any) -> Judge | None:
    from granvit.config.judge import JudgeSettings
    from granvit.config.reading import check
    from granvit.evaluation.judge import make_judge

    asked = {"url": arguments.judge_url, "model": arguments.judge_model}
    values = settings.evaluation.judge.model_dump() | {key: value for key, value in asked.items() if value}
    return make_judge(check(JudgeSettings, values, "--judge-url and --judge-model"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
