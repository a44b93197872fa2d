"""A finished score's points once more, from its verdicts alone: no model and no judge is asked."""

from __future__ import annotations

import json
from pathlib import Path

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, read_questions
from granvit.evaluation.rules import Scored, Verdict, rule_of

TOLERANCE = 1e-6  # of a score: the digits that do not depend on how a machine adds


def recount(benchmark: Benchmark, data_dir: str | Path, verdicts: str | Path, score: str | Path) -> Scored:
    """The score that a file of ``verdicts`` makes, with its points (``granvit.evaluation.score`` writes
    neither points nor units). ``score``: its score file, which has to say the same.

    Raises GranvitError for a missing file, verdicts on other questions than the benchmark's, and where the
    two files disagree.
    """
    lines, stored = _read(Path(verdicts)), _read(Path(score))[0]
    questions = {question.index: question for question in read_questions(benchmark, data_dir)}
    strange = [line["index"] for line in lines if line["index"] not in questions]
    if strange:
        raise GranvitError(
            f"{verdicts}: question {strange[0]} is not in {benchmark.tsv}; score it again with "
            f"`snakemake -f {verdicts}`"
        )
    rule, asked = rule_of(benchmark), [questions[line["index"]] for line in lines]
    found = []
    for line, question, case in zip(lines, asked, rule.cases(benchmark, asked), strict=True):
        heard = line.get("judge") if rule.judge and not rule.judge.marks else None
        answer = line["prediction"] if heard is None else heard
        found.append(Verdict(question, {**case, "prediction": answer}, line["score"]))
    scored = rule.total(benchmark, found)
    if abs(scored.score - stored["score"]) > TOLERANCE:
        raise GranvitError(
            f"{verdicts}: makes {scored.score:.4f}, but {score} says {stored['score']:.4f}; score it again "
            f"with `snakemake -f {verdicts}`"
        )
    return scored


def _read(path: Path) -> list[dict]:
    if not path.is_file():
        raise GranvitError(f"{path}: no such file; make it with `snakemake {path}`")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return [json.loads(text)]
    return [json.loads(line) for line in text.split("\n") if line]  # answers may hold other line ends
