"""From a benchmark's predictions to its score file: every cell of every table starts here.

``score`` is in percent (OCRBench: out of 1000). Where VLMEvalKit would ask a judge, one is asked if it is
set, and else the rule without a judge stands; the score file says which in `judge`. `failed_extractions` is
the share of answers (0-1) from which no option, yes or no, number or box could be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granvit.config import steps
from granvit.errors import GranvitError, reading
from granvit.evaluation import judge as judges
from granvit.evaluation.answer_files import join
from granvit.evaluation.benchmarks import Benchmark, read_questions
from granvit.evaluation.judge import Judge, Verdicts
from granvit.evaluation.rules import Case, Rule, Scored, Verdict, rule_of, scorable
from granvit.evaluation.tsv_files import Question, file_md5
from granvit.evaluation.uncertainty import bootstrap_interval
from granvit.evaluation.units import first_units
from granvit.evaluation.verdicts import by_category
from granvit.evaluation.verdicts import lines as verdict_lines
from granvit.files import write_json, write_text

NO_JUDGE = "none (rule-based)"  # the toolkit would ask a judge here
NOT_NEEDED = "not needed"
MD5_DIGITS = 8  # config/benchmarks.tsv holds at least so many of the official file's

Say = Callable[[str], None]


@dataclass(frozen=True)
class Marked:
    """A benchmark's answers with their verdicts, the score that these make, and the facts that its score file
    adds.
    """

    rule: Rule
    verdicts: list[Verdict]
    answers: dict[str, str]
    said: dict[str, str | float]  # by the judge, by index
    scored: Scored
    facts: dict[str, Any]


def score(
    predictions: str | Path,
    benchmark: Benchmark,
    data_dir: str | Path,
    judge: Judge | None = None,
    say: Say = print,
    verdicts: str | Path | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """The content of ``{slug}.json`` (docs/evaluation.md). ``say`` is given a line for each question that the
    judge failed; ``verdicts``: a file for one line a question; ``limit``: as in `first_units`.

    Raises GranvitError where predictions and questions differ, and where no question has a gold answer.
    """
    marked = mark(predictions, benchmark, data_dir, judge, say, limit)
    scored = marked.scored
    low, high = bootstrap_interval(scored.points)
    categories = by_category(benchmark, marked.rule, marked.verdicts)
    if verdicts:
        lines = verdict_lines(marked.rule, marked.verdicts, marked.answers, marked.said)
        write_text(verdicts, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return {
        "benchmark": benchmark.name,
        "score": scored.score,
        "interval": [scored.full * low, scored.full * high],
        "n": scored.n,
        "rule": benchmark.rule,
        **marked.facts,
        **scored.extra,
        **({"categories": categories} if categories else {}),
    }


def mark(
    predictions: str | Path,
    benchmark: Benchmark,
    data_dir: str | Path,
    judge: Judge | None = None,
    say: Say = print,
    limit: int | None = None,
) -> Marked:
    """The verdict on each answer of a file, and the score. Raises GranvitError as `score` does."""
    with reading(predictions):
        rule, everything = rule_of(benchmark), read_questions(benchmark, data_dir)
        questions = first_units(benchmark.rule, everything, limit)
        answers = join(Path(predictions), benchmark, questions)
        kept = _with_gold(benchmark, questions)
        cases = _cases(rule, benchmark, kept, answers)
        judge, heard = _asked(rule, judge), Verdicts()
        if judge:
            heard = judge.ask([task for task in map(rule.judge.task, kept, cases) if task])
        for index, reason in heard.failures.items():
            say(f"{benchmark.name}: question {index}: the judge failed ({reason}); scored by the rule alone")
        marks = heard.said if judge and rule.judge.marks else {}
        if not marks:
            cases = _cases(rule, benchmark, kept, {**answers, **heard.said})
        found = [
            Verdict(question, case, float(marks.get(question.index, rule.value(case))))
            for question, case in zip(kept, cases, strict=True)
        ]
        missing, data = len(questions) - len(kept), Path(data_dir) / benchmark.tsv
        facts = {**_judge_facts(rule, judge, heard), **_facts(rule, benchmark, cases, missing, data)}
        if len(questions) < len(everything):
            part = f"{benchmark.name}: the first {len(questions)} of {len(everything)} questions only"
            facts["warnings"] = [*facts["warnings"], part]
        return Marked(rule, found, answers, heard.said, rule.total(benchmark, found), facts)


def _facts(
    rule: Rule, benchmark: Benchmark, cases: Sequence[Case], missing_golds: int, data: Path
) -> dict[str, Any]:
    """What was read, of which file, in which version."""
    unread = sum(not rule.reads(case) for case in cases) / len(cases) if rule.reads else None
    return {
        "failed_extractions": unread,
        "missing_golds": missing_golds,
        "rule_version": steps.version("score"),
        "prompt_version": f"{benchmark.prompt}-{steps.version('predict')}",
        "decoding": {"strategy": "greedy", "max_new_tokens": benchmark.max_new_tokens},
        **_data_facts(data, benchmark),
    }


def _with_gold(benchmark: Benchmark, questions: Sequence[Question]) -> list[Question]:
    kept = [one for one, keep in zip(questions, scorable(benchmark, questions), strict=True) if keep]
    if not kept:
        raise GranvitError(
            f"{benchmark.tsv}: {benchmark.name}: no row has a gold answer (column answer); a test split "
            "without golds cannot be scored here: take the validation file that config/benchmarks.tsv names"
        )
    return kept


def _cases(
    rule: Rule, benchmark: Benchmark, questions: Sequence[Question], answers: Mapping[str, Any]
) -> list[Case]:
    cases = zip(questions, rule.cases(benchmark, questions), strict=True)
    return [{**case, "prediction": answers[question.index]} for question, case in cases]


def _asked(rule: Rule, judge: Judge | None) -> Judge | None:
    """The judge, where the rule has something to ask it."""
    asks = judge and rule.judge and (judge.settings.choices or not rule.judge.optional)
    return judge if asks else None


def _judge_facts(rule: Rule, judge: Judge | None, verdicts: Verdicts) -> dict[str, Any]:
    if judge is None:
        return {"judge": NO_JUDGE if rule.judge else NOT_NEEDED}
    judged, failed = len(verdicts.said), len(verdicts.failures)
    return {
        "judge": _judge_name(judge.name, judged, failed),
        "judge_prompt_version": judges.VERSION,
        "judged": judged,
        "judge_failures": failed,
        "marked_by_judge": rule.judge.marks and judged > 0,
    }


def _judge_name(name: str, judged: int, failed: int) -> str:
    """Who read the answers: a judge that failed all of them has read none."""
    if not failed:
        return name
    share = f"failed: {failed} of {judged + failed}"
    return f"{name} ({share})" if judged else f"rules (judge {name} {share})"


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
    verdicts: str | Path | None = None,
) -> dict[str, Any]:
    """Score a benchmark and write its score file, and its ``verdicts`` where a file is named, whole or not at
    all; returns the score file's content.

    Raises GranvitError as `score` does.
    """
    result = score(predictions, benchmark, data_dir, judge, say, verdicts)
    write_json(out, result, sort_keys=False)
    return result
