"""A score question by question and category by category, and of a part of a benchmark."""

from __future__ import annotations

import json

import judge_server
import pytest
from benchmark_world import ROOT, make_answers, make_data, picture, write_rows
from evaluation_world import toy_benchmark
from judge_server import answer, judge_at

from granvit.errors import GranvitError
from granvit.evaluation.asks import collect_asks
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.score import score

server = judge_server.server  # a fixture
BENCHMARKS = load_benchmarks(ROOT / "config" / "benchmarks.tsv")


def verdicts(folder, rows, said, rule, judge=None, **changes):
    path = answer(folder, rows, said)
    benchmark = toy_benchmark(rule=rule, **changes)
    score(path, benchmark, folder, judge, verdicts=folder / "out" / "Toy.jsonl")
    return [json.loads(line) for line in (folder / "out" / "Toy.jsonl").read_text().splitlines()]


OPTIONS = {"A": "a cat", "B": "a dog", "answer": "B", "category": "animals"}
NUMBER = {"question_type": "free_form", "answer_type": "integer", "answer": "7"}
CHOICE = {"question_type": "multi_choice", "answer_option": "B", "choices": "['cat', 'dog']"}
BOX = {"split": "RefCOCO_val", "width": 40, "height": 20, "answer": "[0.0, 0.0, 0.5, 0.5]"}


@pytest.mark.parametrize(
    ("rule", "row", "said", "read", "gold", "value"),
    [
        ("multiple_choice", OPTIONS, "It is B.", "B", "B", 1.0),
        ("multiple_choice", OPTIONS, "no idea", None, "B", 0.0),
        ("mathvista", NUMBER, " 7 ", "7", "7", 1.0),
        ("mathvista", NUMBER, "seven", None, "7", 0.0),
        ("mathvista", CHOICE, "the dog", "B", "B", 1.0),
        ("refcoco_iou50", BOX, "at [0, 0, 0.5, 0.5]", [0.0, 0.0, 20.0, 10.0], [0.0, 0.0, 20.0, 10.0], 1.0),
        ("refcoco_iou50", BOX, "there", None, [0.0, 0.0, 20.0, 10.0], 0.0),
        ("anls", {"answer": "['abcd', 'x']"}, "abcx", "abcx", ["abcd", "x"], 0.75),
    ],
)
def test_a_verdict_says_what_was_read_and_what_it_was_held_against(
    tmp_path, rule, row, said, read, gold, value
):
    index = "RefCOCO_val_0" if "split" in row else "0"
    write_rows(tmp_path / "Toy.tsv", [{"index": 0, "image": picture(1), "question": "q", **row}])
    (tmp_path / "Toy.jsonl").write_text(json.dumps({"index": index, "prediction": said}))
    score(tmp_path / "Toy.jsonl", toy_benchmark(rule=rule), tmp_path, verdicts=tmp_path / "v.jsonl")
    (found,) = map(json.loads, (tmp_path / "v.jsonl").read_text().splitlines())
    category = row.get("category", "")
    expected = {"index": index, "prediction": said, "read": read, "gold": gold, "category": category}
    assert found == {**expected, "score": pytest.approx(value)}


def test_a_judges_mark_and_a_judges_reading_stand_beside_the_answer(server, tmp_path):
    server.say = lambda request: "0.3"
    (one,) = verdicts(tmp_path, [{"answer": "red"}], ["blue"], "mmvet_contains", judge_at(server, tmp_path))
    assert (one["score"], one["judge"], one["prediction"]) == (0.3, 0.3, "blue")
    server.say = lambda request: "7"
    (one,) = verdicts(tmp_path, [NUMBER], ["There are seven."], "mathvista", judge_at(server, tmp_path))
    assert (one["score"], one["judge"], one["read"], one["prediction"]) == (1.0, "7", "7", "There are seven.")


def test_every_benchmark_has_a_line_a_question_and_a_score_for_each_of_its_categories(tmp_path):
    data = make_data(tmp_path / "data")
    answers = make_answers(tmp_path / "answers", data, "one")
    with_categories = set()
    for benchmark in BENCHMARKS:
        file = tmp_path / "v.jsonl"
        found = score(answers / f"{benchmark.slug}.jsonl", benchmark, data, verdicts=file)
        lines = [json.loads(line) for line in file.read_text().split("\n") if line]
        said = [
            json.loads(line) for line in (answers / f"{benchmark.slug}.jsonl").read_text().split("\n") if line
        ]
        assert [(one["index"], one["prediction"]) for one in lines] == [tuple(one.values()) for one in said]
        categories = {line["category"] for line in lines} - {""}
        assert set(found.get("categories", {})) == categories
        assert sum(one["n"] for one in found.get("categories", {}).values()) in (0, found["n"])
        with_categories |= {benchmark.name} if categories else set()
    assert {"MMBench", "BLINK", "MMStar", "MMMU", "HallusionBench", "OCRBench", "MMVet"} <= with_categories


def test_a_category_is_scored_as_the_whole_is(tmp_path):
    rows = [{**OPTIONS, "category": kind} for kind in ("x", "x", "y")]
    path = answer(tmp_path, rows, ["B", "A", "B"])
    found = score(path, toy_benchmark(rule="multiple_choice", categories=("x", "y")), tmp_path)
    assert found["categories"] == {"x": {"score": 50.0, "n": 2}, "y": {"score": 100.0, "n": 1}}
    assert found["score"] == 75.0


def test_rollings_count_in_the_category_of_their_question(tmp_path):
    rows = [{**OPTIONS, "index": i, "category": kind} for i, kind in ((1, "x"), (1_000_001, ""), (2, "y"))]
    path = answer(tmp_path, rows, [])
    said = {1: "B", 1_000_001: "A", 2: "B"}
    path.write_text("".join(json.dumps({"index": i, "prediction": t}) + "\n" for i, t in said.items()))
    found = score(path, toy_benchmark(rule="mmbench_circular"), tmp_path)
    assert found["categories"] == {"x": {"score": 0.0, "n": 1}, "y": {"score": 100.0, "n": 1}}


@pytest.mark.parametrize(
    ("rule", "indices", "kept"),
    [
        ("anls", [5, 6, 7], [5, 6]),
        ("mmvp_pair", [0, 1, 2, 3, 4, 5], [0, 1, 2, 3]),
        ("mmbench_circular", [1, 2, 3, 1_000_002, 1_000_001], [1, 2, 1_000_002, 1_000_001]),
        (
            "hallusion_aggregate",
            ["1_VD_c_0_0_0", "1_VD_c_1_0_0", "1_VD_c_0_1_0", "1_VD_c_2_0_0"],
            ["1_VD_c_0_0_0", "1_VD_c_1_0_0", "1_VD_c_0_1_0"],
        ),
    ],
)
def test_a_limit_keeps_what_counts_together(tmp_path, rule, indices, kept):
    rows = [{"index": i, "image": picture(1), "question": "q", "answer": "A"} for i in indices]
    write_rows(tmp_path / "Toy.tsv", rows)
    (asks,) = collect_asks([toy_benchmark(rule=rule)], tmp_path, limit=2).values()
    assert [ask.index for ask in asks] == list(map(str, kept))


def test_a_score_of_a_part_says_so(tmp_path):
    path = answer(tmp_path, [{"answer": "x"}] * 3, ["x", "y"])
    with pytest.raises(GranvitError, match="2 answers for 3 questions"):
        score(path, toy_benchmark(), tmp_path)
    found = score(path, toy_benchmark(), tmp_path, limit=2)
    assert (found["score"], found["n"]) == (50.0, 2)
    assert "Toy: the first 2 of 3 questions only" in found["warnings"]
