"""Points out of verdicts: the same as those that made the score."""

from __future__ import annotations

import json

import judge_server
import pytest
from benchmark_world import ROOT, make_answers, make_data
from evaluation_world import toy_benchmark
from judge_server import answer, judge_at

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.recount import recount
from granvit.evaluation.score import mark, write_score

server = judge_server.server  # a fixture
BENCHMARKS = load_benchmarks(ROOT / "config" / "benchmarks.tsv")


def test_every_benchmarks_points_are_those_of_its_score(tmp_path):
    data = make_data(tmp_path / "data")
    answers = make_answers(tmp_path / "answers", data, "one")
    for benchmark in BENCHMARKS:
        said = answers / f"{benchmark.slug}.jsonl"
        files = tmp_path / "v.jsonl", tmp_path / "s.json"
        write_score(said, benchmark, data, files[1], verdicts=files[0])
        found, known = recount(benchmark, data, *files), mark(said, benchmark, data).scored
        assert found.points == known.points and len(found.points) > 0, benchmark.name
        assert (found.score, found.full) == (known.score, known.full)


def test_a_judges_reading_and_a_judges_mark_count_without_asking_again(server, tmp_path):
    number = {"question_type": "free_form", "answer_type": "integer", "answer": "7"}
    option = {"A": "a cat", "B": "a dog", "answer": "B"}
    kinds = (("mathvista", number, "7"), ("mmvet_contains", {"answer": "red"}, "0.3"))
    for rule, row, reply in (*kinds, ("mmbench_circular", option, "B")):
        server.say = lambda request, reply=reply: reply
        benchmark, judge = toy_benchmark(rule=rule), judge_at(server, tmp_path, choices=True)
        said = answer(tmp_path, [row], ["There are seven."])
        files = tmp_path / "v.jsonl", tmp_path / "s.json"
        known = write_score(said, benchmark, tmp_path, files[1], judge, verdicts=files[0])
        asked = len(server.requests)
        assert recount(benchmark, tmp_path, *files).score == pytest.approx(known["score"])
        assert known["score"] > 0 and len(server.requests) == asked


def test_verdicts_of_other_answers_than_the_scores_are_named(tmp_path):
    data = make_data(tmp_path / "data")
    benchmark = next(one for one in BENCHMARKS if one.name == "GQA")
    said = make_answers(tmp_path / "answers", data, "one", [benchmark]) / "GQA.jsonl"
    verdicts, scores = tmp_path / "GQA.jsonl", tmp_path / "GQA.json"
    write_score(said, benchmark, data, scores, verdicts=verdicts)
    lines = [json.loads(line) for line in verdicts.read_text().split("\n") if line]
    lines[0]["score"] = 1.0 - lines[0]["score"]
    verdicts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(GranvitError, match=r"GQA\.jsonl: makes .*GQA\.json says.*snakemake -f"):
        recount(benchmark, data, verdicts, scores)
    lines[0]["index"] = "777"
    verdicts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(GranvitError, match=r"question 777 is not in GQA_TestDev_Balanced\.tsv"):
        recount(benchmark, data, verdicts, scores)
    verdicts.unlink()
    with pytest.raises(GranvitError, match="no such file; make it with"):
        recount(benchmark, data, verdicts, scores)
