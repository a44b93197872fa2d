"""Run the scoring rules over files of sample cases: ``python -m granvit.evaluation.check_cases DIR``.

Each line of ``DIR/*.jsonl`` is a JSON object with `rule`, what the rule needs, and `expected`. Exits 1 if a
rule disagrees. A difference that is meant is declared in `DEPARTURES`, with its reason.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.prompts import build_messages
from granvit.evaluation.scoring import RULES, apply

TOLERANCE = 1e-6
DEPARTURES: dict[tuple[str, str], str] = {}  # (rule, prediction) -> why this project scores it otherwise

Case = Mapping[str, Any]


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of one file.

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
        yield case


def verdict(case: Case, forms: Mapping[str, str]) -> Any:
    """What this project says of a case; ``forms``: prompt form of each TSV name (without suffix)."""
    if case["rule"] == "prompt":
        row = {key: "" if value is None else value for key, value in case["tsv_row"].items()}
        if str(row.get("split", "")).startswith("RefCOCO"):
            row["index"] = f"{row['split']}_{row['index']}"
        return build_messages(row, forms[case["dataset"]])
    return apply(case["rule"], case)


def agrees(said: Any, expected: Any) -> bool:
    """Equal, numbers within `TOLERANCE`, dicts and lists member by member."""
    if isinstance(expected, dict):
        return isinstance(said, dict) and all(agrees(said.get(key), value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(said, list) and len(said) == len(expected) and all(map(agrees, said, expected))
    if isinstance(expected, (int, float)) and isinstance(said, (int, float)):
        return abs(said - expected) <= TOLERANCE
    return said == expected


def check(directory: Path, forms: Mapping[str, str]) -> tuple[dict[str, Counter[str]], list[str]]:
    """Counts of ``agree``, ``departure`` and ``disagree`` per rule, and one line per disagreement."""
    counts: dict[str, Counter[str]] = {}
    complaints = []
    files = sorted(directory.glob("*.jsonl"))
    if not files:
        raise GranvitError(f"{directory}: no *.jsonl files of cases there")
    for path in files:
        for case in read_cases(path):
            rule = case["rule"]
            if rule != "prompt" and rule not in RULES:
                raise GranvitError(
                    f"{path}: there is no rule '{rule}'; the rules are {', '.join(sorted(RULES))}"
                )
            said = verdict(case, forms)
            outcome = "agree" if agrees(said, case["expected"]) else "disagree"
            if outcome == "disagree" and (rule, str(case.get("prediction"))) in DEPARTURES:
                outcome = "departure"
            counts.setdefault(rule, Counter())[outcome] += 1
            if outcome == "disagree":
                shown = json.dumps(case.get("prediction", case.get("tsv_row")), ensure_ascii=False)
                complaints.append(f"{path.name}: {shown[:200]}: expected {case['expected']}, scored {said}")
    return counts, complaints


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m granvit.evaluation.check_cases DIR", file=sys.stderr)
        return 2
    try:
        forms = {Path(benchmark.tsv).stem: benchmark.prompt for benchmark in load_benchmarks()}
        counts, complaints = check(Path(arguments[0]), forms)
    except GranvitError as error:
        print(error, file=sys.stderr)
        return 1
    for complaint in complaints:
        print(complaint)
    total: Counter[str] = Counter()
    for rule, count in sorted(counts.items()):
        total += count
        print(_line(rule, count))
    print(_line("total", total))
    return int(total["disagree"] > 0)


def _line(name: str, count: Counter[str]) -> str:
    return (
        f"{name:24s} {count['agree']:4d} agree  {count['departure']:4d} declared departures  "
        f"{count['disagree']:4d} disagree"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
