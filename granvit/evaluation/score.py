"""From a benchmark's predictions to its score file: every cell of every table starts here.

``score`` is in percent (OCRBench: out of 1000). Where VLMEvalKit would ask a judge, one is asked if it is
set, and else the rule without a judge stands; the score file says which in `judge`. `failed_extractions` is
the share of answers (0-1) from which no option, yes or no, number or box could be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from granvit.config import steps
from granvit.errors import GranvitError
from granvit.evaluation import judge as judges
from granvit.evaluation.benchmarks import Benchmark, Question, file_md5, read_rows, select
from granvit.evaluation.cases import Answered, scorable
from granvit.evaluation.judge import Judge, Verdicts
from granvit.evaluation.readings import GRADED, JUDGED, NO_JUDGE, NOT_NEEDED, ask_judge, failed_extractions
from granvit.evaluation.scorers import SCORERS, Scored, full_score
from granvit.evaluation.uncertainty import bootstrap_interval
from granvit.files import write_json

MD5_DIGITS = 8  # config/benchmarks.tsv holds at least so many of the official file's

Say = Callable[[str], None]


def score(
    predictions: str | Path,
    benchmark: Benchmark,
    data_dir: str | Path,
    judge: Judge | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """The content of ``{slug}.json`` (docs/evaluation.md). ``say`` is given a line for each question that the
    judge failed.

    Raises GranvitError where predictions and questions differ, and where no question has a gold answer.
    """
    scored, facts = evaluate(predictions, benchmark, data_dir, judge, say)
    full = full_score(benchmark)
    low, high = bootstrap_interval(scored.points)
    return {
        "benchmark": benchmark.name,
        "score": scored.score,
        "interval": [full * low, full * high],
        "n": scored.n,
        "rule": benchmark.rule,
        **facts,
        **scored.extra,
    }


def evaluate(
    predictions: str | Path,
    benchmark: Benchmark,
    data_dir: str | Path,
    judge: Judge | None = None,
    say: Say = print,
) -> tuple[Scored, dict[str, Any]]:
    """The score of a benchmark with the points it is made of, and the facts that its score file adds."""
    if benchmark.rule not in SCORERS:
        raise GranvitError(
            f"config/benchmarks.tsv: {benchmark.name}: there is no rule '{benchmark.rule}'; expected one of "
            f"{', '.join(SCORERS)}"
        )
    answered = join(Path(predictions), benchmark, questions_of(benchmark, data_dir))
    kept = scorable(benchmark, answered)
    verdicts = ask_judge(benchmark.rule, kept, judge)
    for index, reason in (verdicts.failures if verdicts else {}).items():
        say(f"{benchmark.name}: question {index}: the judge failed ({reason}); scored by the rule alone")
    said = verdicts.said if verdicts else {}
    marks = {index: mark for index, mark in said.items() if isinstance(mark, float)}
    read = [(question, said.get(question.index, text)) for question, text in kept] if not marks else kept
    scored = SCORERS[benchmark.rule](benchmark, read, marks)
    data = Path(data_dir) / benchmark.tsv
    return scored, {
        **_judge_facts(benchmark, judge, verdicts),
        "failed_extractions": failed_extractions(benchmark.rule, read),
        "missing_golds": len(answered) - len(kept),
        "rule_version": steps.version("score"),
        "prompt_version": f"{benchmark.prompt}-{steps.version('predict')}",
        "decoding": {"strategy": "greedy", "max_new_tokens": benchmark.max_new_tokens},
        **_data_facts(data, benchmark),
    }


def _judge_facts(benchmark: Benchmark, judge: Judge | None, verdicts: Verdicts | None) -> dict[str, Any]:
    if judge is None or verdicts is None:
        return {"judge": NO_JUDGE if benchmark.rule in JUDGED else NOT_NEEDED}
    return {
        "judge": judge.name,
        "judge_prompt_version": judges.VERSION,
        "judged": len(verdicts.said),
        "judge_failures": len(verdicts.failures),
        "marked_by_judge": benchmark.rule == GRADED,
    }


def _data_facts(data: Path, benchmark: Benchmark) -> dict[str, Any]:
    """md5 of the data, and whether the file is the official one. Nothing is fetched, nothing removed."""
    md5 = file_md5(data)
    official = len(benchmark.md5) >= MD5_DIGITS and md5.startswith(benchmark.md5)
    expected = benchmark.md5 or "unknown"
    warning = f"{data.name}: md5 {md5} is not that of the official file ({expected})"
    return {"md5": md5, "official_data": official, "warnings": [] if official else [warning]}


def write_score(
    predictions: str | Path,
    benchmark: Benchmark,
    data_dir: str | Path,
    out: str | Path,
    judge: Judge | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Score a benchmark and write its score file, whole or not at all; returns its content."""
    result = score(predictions, benchmark, data_dir, judge, say)
    write_json(out, result, sort_keys=False)
    return result


def questions_of(benchmark: Benchmark, data_dir: str | Path) -> list[Question]:
    """The benchmark's questions in file order; a file is read once for the models and views that follow each
    other.
    """
    path = Path(data_dir) / benchmark.tsv
    stat = path.stat() if path.is_file() else None
    questions = select(benchmark, _rows(path, stat and (stat.st_size, stat.st_mtime_ns)))
    if not questions:
        raise GranvitError(
            f"{path}: no question for {benchmark.name}; config/benchmarks.tsv (split_prefix, categories) and "
            "the file's split and category disagree"
        )
    return questions


@lru_cache(maxsize=1)  # the largest file's rows fill memory once, not twenty times
def _rows(path: Path, stamp: tuple[int, int] | None) -> list[Question]:
    return read_rows(path)


def join(path: Path, benchmark: Benchmark, questions: Sequence[Question]) -> list[Answered]:
    """Questions in file order, each with its prediction."""
    if not path.is_file():
        raise GranvitError(
            f"{path}: no predictions of {benchmark.name} there; make them with `snakemake {path}`"
        )
    predictions = read_predictions(path)
    missing = [question.index for question in questions if question.index not in predictions]
    if missing or len(predictions) != len(questions):
        raise GranvitError(
            f"{path}: {len(predictions)} answers for {len(questions)} questions of {benchmark.name}"
            + (f" (none for {missing[0]})" if missing else "")
            + "; the file belongs to other data: delete it and run again"
        )
    return [(question, predictions[question.index]) for question in questions]


def read_predictions(path: Path) -> dict[str, str]:
    """index -> prediction of a prediction file. Raises GranvitError naming a line that holds none."""
    predictions = {}
    lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: answers may hold other line breaks
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            predictions[str(row["index"])] = str(row["prediction"])
        except (json.JSONDecodeError, KeyError, TypeError):
            raise GranvitError(
                f"{path}: line {number}: expected a JSON object with index and prediction; delete the file "
                "and run again"
            ) from None
    return predictions
