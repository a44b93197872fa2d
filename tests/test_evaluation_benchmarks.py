"""Benchmarks as lines of a list, and from a TSV and its answers to a score file."""

from __future__ import annotations

import json

import pytest
from conftest import ROOT
from evaluation_world import base64_picture, toy_benchmark, write_tsv

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks, read_questions
from granvit.evaluation.rules import RULES, golds
from granvit.evaluation.score import score, write_score
from granvit.evaluation.tsv_files import file_md5


def benchmark(rule, **changes):
    return toy_benchmark(rule=rule, **changes)


def answers(path, predictions):
    path.write_text("".join(json.dumps({"index": i, "prediction": p}) + "\n" for i, p in predictions.items()))
    return path


def test_the_twenty_benchmarks_are_all_there_with_rules_that_exist():
    benchmarks = load_benchmarks()
    assert len(benchmarks) == 20
    assert {b.rule for b in benchmarks} <= set(RULES)
    assert {b.slug for b in benchmarks if "+" in b.name} == {"RefCOCOplus"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("plain", "polite", r"b\.tsv, line 2: prompt: 'polite' should be "),
        ("64", "many", "line 2: max_new_tokens: 'many' should be a whole number of at least 1; change"),
        ("prompt", "promt", "column 'prompt' is missing; expected name, tsv, "),
        ("RefCOCO.tsv", "", "line 2: tsv: empty; fill it in"),
        ("RefCOCO+", "refcoco", "line 3: names 'RefCOCO' and 'refcoco' differ in case only"),
    ],
)
def test_a_wrong_line_of_the_list_is_named(tmp_path, old, new, told):
    lines = (ROOT / "config" / "benchmarks.tsv").read_text()
    (tmp_path / "b.tsv").write_text(lines.replace(old, new, 1))
    with pytest.raises(GranvitError, match=told):
        load_benchmarks(tmp_path / "b.tsv")


def test_a_missing_benchmark_file_is_named(tmp_path):
    with pytest.raises(GranvitError, match="Toy.tsv: no such benchmark file"):
        read_questions(benchmark("anls"), tmp_path)


def test_views_of_refcoco_are_told_apart_by_split(tmp_path):
    rows = [
        {
            "index": i,
            "image": base64_picture("red"),
            "question": "q",
            "answer": "[0, 0, 1, 1]",
            "split": split,
        }
        for i, split in enumerate(["RefCOCO_val", "RefCOCO+_val", "RefCOCOg_val"])
    ]
    write_tsv(tmp_path / "Toy.tsv", rows)
    plus = read_questions(benchmark("refcoco_iou50", split_prefix="RefCOCO+_"), tmp_path)
    assert [question.index for question in plus] == ["RefCOCO+_val_1"]


def test_relative_and_pixel_golds_score_the_same_per_split(tmp_path):
    base = {"image": base64_picture("red"), "question": "q", "width": 200, "height": 100}
    for gold in ("[0.1, 0.1, 0.5, 0.5]", "[20, 10, 100, 50]"):
        write_tsv(tmp_path / "Toy.tsv", [
            {"index": 0, **base, "answer": gold, "split": "RefCOCO_val"},
            {"index": 1, **base, "answer": gold, "split": "RefCOCO_testA"},
        ])  # fmt: skip
        made = answers(
            tmp_path / "p.jsonl", {"RefCOCO_val_0": "[0.1, 0.1, 0.5, 0.5]", "RefCOCO_testA_1": "nothing"}
        )
        result = score(made, benchmark("refcoco_iou50", split_prefix="RefCOCO_"), tmp_path)
        assert result["splits"]["RefCOCO_val"] == {"score": 100.0, "n": 1, "interval": [100.0, 100.0]}
        assert (result["score"], result["failed_extractions"]) == (50.0, 0.5)


def test_blink_is_the_macro_mean_of_its_categories(tmp_path):
    cells = {"image": base64_picture("red"), "question": "q", "A": "x", "B": "y", "answer": "A"}
    kinds = ["Counting", "Counting", "Counting", "Object_Localization", "Other"]
    write_tsv(tmp_path / "Toy.tsv", [{"index": i, **cells, "category": kind} for i, kind in enumerate(kinds)])
    made = answers(tmp_path / "p.jsonl", {0: "A", 1: "A", 2: "A", 3: "B"})
    result = score(
        made, benchmark("multiple_choice", categories=("Counting", "Object_Localization")), tmp_path
    )
    assert result["score"] == 50.0 and result["n"] == 4 and result["details"]["micro"] == 75.0


def test_mmbench_counts_a_question_only_if_every_rolling_is_right(tmp_path):
    image = base64_picture("red")
    write_tsv(tmp_path / "Toy.tsv", [
        {"index": 1, "image": image, "question": "q", "A": "x", "B": "y", "answer": "A"},
        {"index": 1000001, "image": 1, "question": "q", "A": "y", "B": "x", "answer": "B"},
        {"index": 2, "image": 1, "question": "q", "A": "x", "B": "y", "answer": "A"},
    ])  # fmt: skip
    made = answers(tmp_path / "p.jsonl", {1: "A", 1000001: "A", 2: "A"})
    result = score(made, benchmark("mmbench_circular"), tmp_path)
    assert (result["score"], result["n"], result["details"]["rows"]) == (50.0, 2, 3)


def test_predictions_of_other_data_are_refused(tmp_path):
    write_tsv(
        tmp_path / "Toy.tsv", [{"index": 1, "image": base64_picture("red"), "question": "q", "answer": "x"}]
    )
    with pytest.raises(GranvitError, match="0 answers for 1 questions"):
        score(answers(tmp_path / "p.jsonl", {}), benchmark("anls"), tmp_path)


def test_a_score_file_says_how_it_was_made(tmp_path):
    write_tsv(
        tmp_path / "Toy.tsv",
        [{"index": 1, "image": base64_picture("red"), "question": "q", "answer": "['x', 'y']"}],
    )
    write_score(
        answers(tmp_path / "p.jsonl", {1: "y"}), benchmark("anls"), tmp_path, tmp_path / "s" / "Toy.json"
    )
    content = json.loads((tmp_path / "s" / "Toy.json").read_text())
    expected = {
        "benchmark": "Toy", "score": 100.0, "n": 1, "rule": "anls", "judge": "not needed",
        "failed_extractions": None, "official_data": False, "md5": file_md5(tmp_path / "Toy.tsv"),
        "decoding": {"strategy": "greedy", "max_new_tokens": 8},
    }  # fmt: skip
    assert {key: content[key] for key in expected} == expected
    assert content["warnings"] == [
        f"Toy.tsv: md5 {content['md5']} is not that of the official file (unknown)"
    ]


def test_an_answer_that_merely_starts_with_a_bracket_is_one_gold(tmp_path):
    write_tsv(
        tmp_path / "Toy.tsv",
        [{"index": 1, "image": base64_picture("red"), "question": "q", "answer": "[Ghana, Korea]"}],
    )
    assert golds(read_questions(benchmark("anls"), tmp_path)[0]) == ["[Ghana, Korea]"]


REFCOCO = benchmark("refcoco_iou50", split_prefix="RefCOCO_", tsv="RefCOCO.tsv")


def test_refcoco_is_scored_without_split_and_size_as_in_the_toolkit(tmp_path):
    base = {"image": base64_picture("red"), "question": "q", "answer": "[0.1, 0.1, 0.5, 0.5]"}
    rows = [{"index": i, **base, "category": f"RefCOCO {part}"} for i, part in enumerate(("testA", "test B"))]
    write_tsv(tmp_path / "RefCOCO.tsv", rows)
    said = {"RefCOCO_testA_0": "[0.1, 0.1, 0.5, 0.5]", "RefCOCO_testB_1": "[100, 100, 500, 490]"}
    result = score(answers(tmp_path / "p.jsonl", said), REFCOCO, tmp_path)
    assert {name: split["score"] for name, split in result["splits"].items()} == {
        "RefCOCO_testA": 100.0, "RefCOCO_testB": 100.0
    }  # fmt: skip


def test_a_box_in_pixels_without_the_images_size_is_refused_and_not_scored_0(tmp_path):
    row = {"index": 0, "image": base64_picture("red"), "question": "q", "category": "RefCOCO val"}
    write_tsv(tmp_path / "RefCOCO.tsv", [{**row, "answer": "[10, 10, 50, 50]"}])
    made = answers(tmp_path / "p.jsonl", {"RefCOCO_val_0": "[0.1, 0.1, 0.5, 0.5]"})
    with pytest.raises(GranvitError, match="RefCOCO.tsv: row RefCOCO_val_0: width is missing; expected the"):
        score(made, REFCOCO, tmp_path)


def test_a_row_without_corner_columns_takes_its_box_from_the_answer(tmp_path):
    base = {"image": base64_picture("red"), "question": "q", "width": 200, "height": 100}
    corners = dict(zip(("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), (20, 10, 100, 50), strict=True))
    rows = [
        {"index": 0, **base, **corners, "split": "RefCOCO_val"},
        {"index": 1, **base, "answer": "[0.1, 0.1, 0.5, 0.5]", "split": "RefCOCO_val"},
    ]
    write_tsv(tmp_path / "RefCOCO.tsv", rows)
    said = dict.fromkeys(("RefCOCO_val_0", "RefCOCO_val_1"), "[0.1, 0.1, 0.5, 0.5]")
    assert score(answers(tmp_path / "p.jsonl", said), REFCOCO, tmp_path)["score"] == 100.0
