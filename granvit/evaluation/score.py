"""From a benchmark's predictions to its score file: every cell of every table starts here.

``score`` is in percent (OCRBench: out of 1000). No judge is asked: where VLMEvalKit would ask one, its rule
without a judge stands, and the score file says so in `judge`; `failed_extractions` is the share of answers
(0-1) from which no option, yes or no, number or box could be read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, Question, read_questions
from granvit.evaluation.scorers import NOT_NEEDED, READABLE, SCORERS, Answered

MD5_DIGITS = 8  # of the official file, as config/benchmarks.tsv holds them


def score(predictions: str | Path, benchmark: Benchmark, data_dir: str | Path) -> dict[str, Any]:
    """The content of ``{slug}.json`` (docs/evaluation.md).

    Raises GranvitError where predictions and questions differ.
    """
    if benchmark.rule not in SCORERS:
        raise GranvitError(
            f"config/benchmarks.tsv: {benchmark.name}: there is no rule '{benchmark.rule}'; expected one of "
            f"{', '.join(SCORERS)}"
        )
    questions = read_questions(benchmark, data_dir)
    answered = join(Path(predictions), benchmark, questions)
    outcome = SCORERS[benchmark.rule](benchmark, answered)
    read, judge = READABLE.get(benchmark.rule, (None, NOT_NEEDED))
    failed = None if read is None else sum(not read(q, text) for q, text in answered) / len(answered)
    return {
        "benchmark": benchmark.name,
        "score": outcome.pop("score"),
        "n": outcome.pop("n"),
        "rule": benchmark.rule,
        "judge": judge,
        "failed_extractions": failed,
        "official_data": _md5(Path(data_dir) / benchmark.tsv)[:MD5_DIGITS] == benchmark.md5,
        **outcome,
    }


def write_score(predictions: str | Path, benchmark: Benchmark, data_dir: str | Path, out: str | Path) -> None:
    """Score a benchmark and write its score file."""
    result = score(predictions, benchmark, data_dir)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, out)


def join(path: Path, benchmark: Benchmark, questions: Sequence[Question]) -> list[Answered]:
    """Questions in file order, each with its prediction."""
    if not path.is_file():
        raise GranvitError(
            f"{path}: no predictions of {benchmark.name} there; make them with `snakemake {path}`"
        )
    predictions = {}
    lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: answers may hold other line breaks
    for number, line in enumerate(filter(None, lines), start=1):
        try:
            row = json.loads(line)
            predictions[str(row["index"])] = str(row["prediction"])
        except (json.JSONDecodeError, KeyError, TypeError):
            raise GranvitError(
                f"{path}: line {number}: expected a JSON object with index and prediction; delete the file "
                "and run again"
            ) from None
    missing = [question.index for question in questions if question.index not in predictions]
    if missing or len(predictions) != len(questions):
        raise GranvitError(
            f"{path}: {len(predictions)} answers for {len(questions)} questions of {benchmark.name}"
            + (f" (none for {missing[0]})" if missing else "")
            + "; the file belongs to other data: delete it and run again"
        )
    return [(question, predictions[question.index]) for question in questions]


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
