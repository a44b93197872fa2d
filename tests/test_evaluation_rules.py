"""A rule is one object: what is written here for a made-up rule is all that a new one needs."""

from __future__ import annotations

import json

import judge_server
import pytest
from benchmark_world import ROOT
from judge_server import answer, benchmark, judge_at

from granvit.errors import GranvitError
from granvit.evaluation import check_cases
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.judge import Asking, Task
from granvit.evaluation.rules import RULES, Rule
from granvit.evaluation.score import score

server = judge_server.server  # a fixture
COLOURS = ("red", "green", "blue")


def right_colour(case):
    return float(case["prediction"] == case["answers"][0])


def ask_for_a_colour(question, case):
    if case["prediction"] in COLOURS:
        return None
    prompt = f"{question.cells['question']} | {case['prediction']}"
    return Task(question.index, prompt, lambda reply: reply if reply in COLOURS else None)


@pytest.fixture
def colour_rule(monkeypatch):
    """The one place where a rule is added."""
    rule = Rule(
        right_colour,
        has_gold=lambda question: question.cells.get("answer") in COLOURS,
        reads=lambda case: case["prediction"] in COLOURS,
        judge=Asking(ask_for_a_colour, optional=True),
    )
    monkeypatch.setitem(RULES, "colour", rule)


@pytest.fixture
def predictions(colour_rule, tmp_path):
    """Five answers, of which the last has no gold: right, wrong, wordy, beside the point."""
    golds = ["red", "red", "blue", "green", "?"]
    rows = [{"answer": gold, "split": "ab"[i % 2]} for i, gold in enumerate(golds)]
    return answer(tmp_path, rows, ["red", "blue", "like the sky", "nothing", "red"])


def test_a_made_up_rule_reads_scores_and_splits(predictions, tmp_path):
    found = score(predictions, benchmark("colour"), tmp_path)
    assert (found["score"], found["n"], found["missing_golds"]) == (25.0, 4, 1)
    assert (found["judge"], found["failed_extractions"]) == ("none (rule-based)", 0.5)
    assert found["splits"] == {
        "a": {"score": 50.0, "n": 2, "interval": [0.0, 100.0]},
        "b": {"score": 0.0, "n": 2, "interval": [0.0, 0.0]},
    }


def test_a_made_up_rule_asks_its_judge_about_what_it_cannot_read(predictions, server, tmp_path):
    server.say = lambda request: "blue" if "sky" in request["messages"][0]["content"] else "no colour"
    lines = []
    judge = judge_at(server, tmp_path, choices=True)
    found = score(predictions, benchmark("colour"), tmp_path, judge, lines.append)
    assert (found["score"], found["failed_extractions"]) == (50.0, 0.25)
    assert (found["judged"], found["judge_failures"], len(lines), len(server.requests)) == (1, 1, 1, 2)
    assert score(predictions, benchmark("colour"), tmp_path, judge_at(server, tmp_path))["score"] == 25.0


def test_a_made_up_rule_is_held_against_sample_cases(colour_rule, tmp_path, capsys):
    cases = [("red", 1.0), ("blue", 0.0), ("blue", 1.0)]
    lines = [
        json.dumps({"rule": "colour", "prediction": said, "answers": ["red"], "expected": expected}) + "\n"
        for said, expected in cases
    ]
    (tmp_path / "cases.jsonl").write_text("".join(lines))
    assert check_cases.main([str(tmp_path)]) == 1
    assert " ".join(capsys.readouterr().out.splitlines()[1].split()).startswith("colour 2 agree 0")


def test_a_rule_that_no_table_has_is_named_with_those_that_exist(predictions, tmp_path):
    with pytest.raises(GranvitError, match="Toy: there is no rule 'taste'; expected one of anls, .*colour"):
        score(predictions, benchmark("taste"), tmp_path)


def test_every_rule_of_the_table_scores_a_benchmark():
    used = {line.rule for line in load_benchmarks(ROOT / "config" / "benchmarks.tsv")}
    assert used and used == set(RULES)
