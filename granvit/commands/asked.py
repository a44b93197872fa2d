"""What the commands of `granvit eval` share: which benchmarks are meant, where they are, who judges."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.errors import GranvitError

if TYPE_CHECKING:
    from granvit.evaluation.benchmarks import Benchmark
    from granvit.evaluation.judge import Judge


def common(command: argparse.ArgumentParser, limit: bool = True) -> None:
    """Add the options that say which questions are meant."""
    command.add_argument("--scale", help="smoke | mini | small | paper (default: that of config/config.yaml)")
    command.add_argument("--list", metavar="TSV", help="instead of config/benchmarks.tsv; files beside it")
    command.add_argument("--data", help="folder of the benchmarks' TSV files (default: the scale's)")
    command.add_argument("--benchmarks", help="only these, by name, separated by commas")
    if limit:
        command.add_argument("--limit", type=int, help="only the first so many questions of each, to try out")


def judging(command: argparse.ArgumentParser) -> None:
    """Add the options that name a judge."""
    command.add_argument("--judge-url", help="address of an OpenAI-compatible endpoint, up to and with /v1")
    command.add_argument("--judge-model", help="the model that it is asked for; its key: $GRANVIT_JUDGE_KEY")


def reading_form(command: argparse.ArgumentParser) -> None:
    """Add the option that says who wrote the predictions."""
    command.add_argument(
        "--format", choices=["granvit", "vlmevalkit", "lmms-eval"], default="granvit",
        help="who wrote the predictions: tsv, xlsx or json of VLMEvalKit, samples of lmms-eval",
    )  # fmt: skip


def asked(arguments: argparse.Namespace) -> tuple[Any, list[Benchmark], str]:
    """The scale's settings, the benchmarks that are meant, and the folder of their files. Raises GranvitError
    outside the project's folder, for an unknown benchmark, and for a limit below 1.
    """
    from granvit.config.loading import CONFIG_FILE, load_config
    from granvit.config.reading import read_yaml
    from granvit.evaluation.benchmarks import LIST, find_benchmark, load_benchmarks

    if hasattr(arguments, "limit"):
        positive(arguments, "limit")
    if not Path(CONFIG_FILE).is_file():
        raise GranvitError(
            f"{Path.cwd()}: there is no {CONFIG_FILE} here; run `granvit` in the project's folder"
        )
    settings = load_config(arguments.scale or read_yaml(CONFIG_FILE)["scale"])
    benchmarks = load_benchmarks(arguments.list or LIST)
    if arguments.benchmarks is not None:
        named = dict.fromkeys(arguments.benchmarks.split(","))  # one that is named twice is asked once
        benchmarks = [find_benchmark(benchmarks, name.strip(), arguments.list) for name in named]
    beside = arguments.list and str(Path(arguments.list).parent)
    return settings, benchmarks, arguments.data or beside or settings.data.benchmarks


def check_named(
    arguments: argparse.Namespace, folder: str, benchmarks: Sequence[Benchmark], made: Sequence[Benchmark]
) -> None:
    """Raise GranvitError where a benchmark that --benchmarks asks for is not among those ``made``."""
    absent = [one.name for one in benchmarks if one not in made] if arguments.benchmarks else []
    if absent:
        raise GranvitError(
            f"{folder}: no predictions of {', '.join(absent)}, which --benchmarks asks for; make them with "
            "`granvit eval predict`"
        )


def positive(arguments: argparse.Namespace, *names: str) -> None:
    """Raise GranvitError for the first of these options that is below 1."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise GranvitError(f"--{name.replace('_', '-')} is {value}; expected 1 or more")


def judge_of(arguments: argparse.Namespace, settings: Any) -> Judge | None:
    """The judge of the options, else of the settings; None without either."""
    from granvit.config.judge import JudgeSettings
    from granvit.config.reading import check
    from granvit.evaluation.judge import make_judge

    given = {"url": arguments.judge_url, "model": arguments.judge_model}
    values = settings.evaluation.judge.model_dump() | {key: value for key, value in given.items() if value}
    return make_judge(check(JudgeSettings, values, "--judge-url and --judge-model"))


def own_output() -> AbstractContextManager:
    """Within it, what libraries print goes beside the output, which is the command's own (JSON, mostly):
    DeepSpeed logs to standard output when something imports it."""
    return redirect_stdout(sys.stderr)


def say(line: str) -> None:
    """Print a line beside the output."""
    print(line, file=sys.stderr, flush=True)
