"""Run the scoring rules over files of sample cases: ``python -m granvit.evaluation.check_cases DIR``.

Each line of ``DIR/*.jsonl`` is a JSON object with `rule`, what the rule needs, and `expected`, the toolkit's
value. Prints, per rule, how many cases agree, how many differ on purpose (by the names of `DEPARTURES`) and
how many disagree; exits 1 if any disagrees, or if more than 5 % of a rule's cases are departures.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.prompts import build_messages
from granvit.evaluation.rules import PARTS, RULES, Case, apply
from granvit.evaluation.tsv_files import MISSING, named

TOLERANCE = 1e-6
AGREE, DISAGREE = "agree", "disagree"
LARGEST_DEPARTED_SHARE = 0.05  # of a rule's cases: beyond it a departure is another rule


@dataclass(frozen=True)
class Departure:
    """A difference from the toolkit that is meant: where it holds (narrowly), and why."""

    name: str
    rule: str
    holds: Callable[[Case], bool]
    reason: str


# Every deliberate difference. There is none: the toolkit draws no letter at random without a judge, and its
# other oddities are kept (docs/evaluation.md lists them), because a score is comparable only with them.
DEPARTURES: tuple[Departure, ...] = ()


def read_cases(path: Path) -> Iterator[tuple[int, Case]]:
    """``(line number, case)`` of one file.

    Raises GranvitError for a line that is not a JSON object with `rule` and `expected`.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
        except json.JSONDecodeError as error:
            raise GranvitError(
                f"{path}: line {number}: not JSON ({error}); each line holds one case"
            ) from None
        if not isinstance(case, dict) or not {"rule", "expected"} <= set(case):
            raise GranvitError(f"{path}: line {number}: a case needs the keys 'rule' and 'expected'")
        yield number, case


def verdict(case: Case, forms: Mapping[str, str]) -> Any:
    """What this project says of a case; ``forms``: prompt form of each TSV name (without suffix).

    Raises GranvitError for a prompt of an unknown data set.
    """
    if case["rule"] != "prompt":
        return apply(case["rule"], case)
    row = {key: value for key, value in case["tsv_row"].items() if not _is_missing(value)}
    return build_messages({**row, "index": named(row)}, _form(case["dataset"], forms))


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and cell in MISSING)


def _form(dataset: str, forms: Mapping[str, str]) -> str:
    """A data set's prompt form: its own, or that of another part of the same benchmark (DocVQA_TEST)."""
    if dataset in forms:
        return forms[dataset]
    for name, form in forms.items():
        if name.split("_")[0] == dataset.split("_")[0]:
            return form
    raise GranvitError(
        f"there is no data set '{dataset}' in config/benchmarks.tsv; it has {', '.join(forms)}"
    )


def agrees(said: Any, expected: Any) -> bool:
    """Equal, numbers within `TOLERANCE`, dicts and lists member by member."""
    if isinstance(expected, dict):
        return isinstance(said, dict) and all(agrees(said.get(key), value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(said, list) and len(said) == len(expected) and all(map(agrees, said, expected))
    if isinstance(expected, (int, float)) and isinstance(said, (int, float)):
        return abs(said - expected) <= TOLERANCE or (math.isnan(said) and math.isnan(expected))
    return said == expected


def check(
    directory: Path, forms: Mapping[str, str], departures: Sequence[Departure] = DEPARTURES
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Cases of each rule by outcome (`AGREE`, `DISAGREE` or a departure's name), and one line per
    disagreement.

    Raises GranvitError where there are no cases, a rule is not known, or a case lacks what its rule needs.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    complaints = []
    files = sorted(directory.glob("*.jsonl"))
    if not files:
        raise GranvitError(f"{directory}: no *.jsonl files of cases there")
    for path in files:
        for number, case in read_cases(path):
            said, outcome = _said(f"{path}: line {number}", case, forms), AGREE
            if not agrees(said, case["expected"]):
                declared = [d.name for d in departures if d.rule == case["rule"] and d.holds(case)]
                outcome = declared[0] if declared else DISAGREE
            if outcome == DISAGREE:
                complaints.append(_complaint(f"{path.name}: line {number}", case, said))
            counts[case["rule"]][outcome] += 1
    return counts, complaints


def _said(place: str, case: Case, forms: Mapping[str, str]) -> Any:
    rule = case["rule"]
    if rule not in ("prompt", *RULES, *PARTS):
        known = ", ".join(sorted([*RULES, *PARTS]))
        raise GranvitError(f"{place}: there is no rule '{rule}'; the rules are {known}")
    try:
        return verdict(case, forms)
    except KeyError as error:
        raise GranvitError(f"{place}: a case of the rule '{rule}' needs the key {error}") from None
    except GranvitError as error:
        raise GranvitError(f"{place}: {error}") from None


def _complaint(place: str, case: Case, said: Any) -> str:
    shown = json.dumps(case.get("prediction", case.get("tsv_row", case.get("rows"))), ensure_ascii=False)
    return f"{place}: {case['rule']}: {shown[:200]}: expected {case['expected']}, scored {said}"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m granvit.evaluation.check_cases DIR", file=sys.stderr)
        return 2
    try:
        forms = {Path(benchmark.tsv).stem: benchmark.prompt for benchmark in load_benchmarks()}
        counts, complaints = check(Path(arguments[0]), forms, DEPARTURES)
    except GranvitError as error:
        print(error, file=sys.stderr)
        return 1
    return report(counts, complaints)


def report(counts: Mapping[str, Counter[str]], complaints: Sequence[str]) -> int:
    """Print the disagreements, a line per rule and a last line of totals; return the exit status."""
    for complaint in complaints:
        print(complaint)
    departs = False
    for rule, outcomes in sorted(counts.items()):
        print(_line(rule, outcomes))
        if _departed(outcomes).total() > LARGEST_DEPARTED_SHARE * outcomes.total():
            departs = True
            print(f"{rule}: more than {LARGEST_DEPARTED_SHARE:.0%} of its cases are departures; fix the rule")
    print(_line("total", sum(counts.values(), Counter())))
    return int(bool(complaints) or departs)


def _departed(outcomes: Counter[str]) -> Counter[str]:
    return outcomes - Counter({outcome: outcomes[outcome] for outcome in (AGREE, DISAGREE)})


def _line(name: str, outcomes: Counter[str]) -> str:
    departed = _departed(outcomes)
    names = ", ".join(f"{departure} {times}" for departure, times in sorted(departed.items()))
    return (
        f"{name:24s} {outcomes[AGREE]:4d} agree  {departed.total():4d} declared departures  "
        f"{outcomes[DISAGREE]:4d} disagree{f'  ({names})' if names else ''}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
