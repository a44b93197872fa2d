"""Score files: what they say besides the score, and what is not scored."""

from __future__ import annotations

import csv
import json

import pytest
from benchmark_world import ROOT, make_answers, make_data, picture, write_rows

from granvit.config import steps
from granvit.config.tables import load_tables
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, find_benchmark, load_benchmarks
from granvit.evaluation.score import mark, score
from granvit.evaluation.tsv_files import file_md5
from granvit.evaluation.uncertainty import mean_score

BENCHMARKS = load_benchmarks(ROOT / "config" / "benchmarks.tsv")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All twenty benchmarks, and one model's answers."""
    folder = tmp_path_factory.mktemp("world")
    data = make_data(folder / "data")
    return data, make_answers(folder / "answers", data, "one")


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.slug)
def test_a_score_is_what_its_points_say_and_lies_in_its_interval(benchmark, world):
    data, answers = world
    scored = mark(answers / f"{benchmark.slug}.jsonl", benchmark, data).scored
    assert scored.score == pytest.approx(scored.full * mean_score(scored.points))
    low, high = score(answers / f"{benchmark.slug}.jsonl", benchmark, data)["interval"]
    assert low <= scored.score <= high and low < high


def test_a_score_file_says_how_the_number_was_made(world):
    data, answers = world
    benchmark = find_benchmark(BENCHMARKS, "DocVQA")
    found = score(answers / "DocVQA.jsonl", benchmark, data)
    md5 = file_md5(data / benchmark.tsv)
    expected = {
        "rule": "anls", "judge": "not needed", "failed_extractions": None, "n": 8, "missing_golds": 0,
        "md5": md5, "official_data": False, "decoding": {"strategy": "greedy", "max_new_tokens": 64},
        "rule_version": steps.version("score"), "prompt_version": f"short-{steps.version('predict')}",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert md5 in found["warnings"][0] and benchmark.md5 in found["warnings"][0]


def test_an_unknown_file_is_scored_and_left_as_it_is(world):
    data, answers = world
    before = (data / "GQA_TestDev_Balanced.tsv").read_bytes()
    assert score(answers / "GQA.jsonl", find_benchmark(BENCHMARKS, "GQA"), data)["warnings"]
    assert (data / "GQA_TestDev_Balanced.tsv").read_bytes() == before


@pytest.mark.parametrize(("digits", "official"), [(32, True), (8, True), (7, False), (0, False)])
def test_the_official_file_is_known_by_its_first_digits(tmp_path, digits, official):
    path = questions(tmp_path, [{"answer": "x"}])
    answers(tmp_path, ["x"])
    found = score(tmp_path / "Toy.jsonl", toy("anls", md5=file_md5(path)[:digits]), tmp_path)
    assert (found["official_data"], bool(found["warnings"])) == (official, not official)


def test_every_official_md5_is_whole():
    with open(ROOT / "config" / "benchmarks.tsv", newline="") as file:
        sums = {row["tsv"]: row["md5"] for row in csv.DictReader(file, delimiter="\t")}
    assert len(sums) == 18  # RefCOCO's three views share a file
    assert all(len(md5) == 32 and set(md5) <= set("0123456789abcdef") for md5 in sums.values())


def toy(rule, **changes):
    values = dict(
        name="Toy", tsv="Toy.tsv", split_prefix="", categories=(), rule=rule, prompt="plain",
        capability="VQA", max_new_tokens=8, md5="",
    )  # fmt: skip
    return Benchmark(**{**values, **changes})


def questions(folder, rows):
    base = [{"index": i, "image": picture(i), "question": "q"} for i in range(len(rows))]
    return write_rows(folder / "Toy.tsv", [{**one, **row} for one, row in zip(base, rows, strict=True)])


def answers(folder, texts, indices=None):
    lines = [
        json.dumps({"index": str(index), "prediction": text})
        for index, text in zip(indices or range(len(texts)), texts, strict=True)
    ]
    (folder / "Toy.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "  "])
def test_questions_without_a_gold_are_counted_and_not_scored(tmp_path, missing):
    questions(tmp_path, [{"answer": "x"}, {"answer": missing}, {"answer": "y"}])
    answers(tmp_path, ["x", "x", "z"])
    found = score(tmp_path / "Toy.jsonl", toy("exact_match"), tmp_path)
    assert (found["score"], found["n"], found["missing_golds"]) == (50.0, 2, 1)


def test_a_pair_of_mmvp_without_one_gold_is_left_out_whole(tmp_path):
    rows = [
        {"A": "open", "B": "shut", "answer": gold, "question": f"q{i // 2}"} for i, gold in enumerate("ABA ")
    ]
    questions(tmp_path, rows)
    answers(tmp_path, ["A", "B", "A", "B"])
    found = score(tmp_path / "Toy.jsonl", toy("mmvp_pair"), tmp_path)
    assert (found["score"], found["n"], found["missing_golds"]) == (100.0, 2, 2)


def test_a_pair_of_mmvp_counts_twice_in_the_score_and_is_drawn_as_one(tmp_path):
    rows = [{"A": "open", "B": "shut", "answer": "AB"[i % 2], "question": f"q{i // 2}"} for i in range(8)]
    questions(tmp_path, rows)
    answers(tmp_path, ["A", "B", "A", "A", "A", "B", "A", "A"])
    found = score(tmp_path / "Toy.jsonl", toy("mmvp_pair"), tmp_path)
    assert (found["score"], found["n"], found["details"]) == (75.0, 8, {"pair_accuracy": 50.0})
    scored = mark(tmp_path / "Toy.jsonl", toy("mmvp_pair"), tmp_path).scored
    assert [point.unit for point in scored.points] == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_an_mmbench_question_is_right_if_all_its_rollings_are(tmp_path):
    indices = [1, 2, 1_000_001, 1_000_002, 2_000_001]
    rows = [{"index": i, "A": "cat", "B": "dog", "answer": "A"} for i in indices]
    questions(tmp_path, rows)
    answers(tmp_path, ["A", "A", "A", "B", "A"], indices)
    found = score(tmp_path / "Toy.jsonl", toy("mmbench_circular"), tmp_path)
    assert (found["score"], found["n"]) == (50.0, 2)
    assert found["details"] == {"plain_accuracy": 80.0, "rows": 5}
    questions(tmp_path, [rows[0] | {"index": "a1"}])
    answers(tmp_path, ["A"], ["a1"])
    with pytest.raises(GranvitError, match="index a1 is not a number"):
        score(tmp_path / "Toy.jsonl", toy("mmbench_circular"), tmp_path)


def test_a_chosen_option_is_mathvistas_gold_where_there_are_options(tmp_path):
    chosen = {"question_type": "multi_choice", "answer_type": "text", "choices": "['cat', 'dog']"}
    questions(tmp_path, [{**chosen, "answer_option": "A"}, {**chosen, "answer": "cat"}])
    answers(tmp_path, ["A", "A"])
    found = score(tmp_path / "Toy.jsonl", toy("mathvista"), tmp_path)
    assert (found["score"], found["missing_golds"]) == (100.0, 1)


@pytest.mark.parametrize(
    "rule", ["anls", "vqa_accuracy", "exact_match", "relaxed_accuracy", "ocrbench_contains"]
)
def test_an_empty_list_of_golds_is_a_missing_gold(tmp_path, rule):
    questions(tmp_path, [{"answer": "['x']"}, {"answer": "[]"}])
    answers(tmp_path, ["x", "x"])
    found = score(tmp_path / "Toy.jsonl", toy(rule), tmp_path)
    assert (found["n"], found["missing_golds"]) == (1, 1)


def test_an_mmbench_question_without_the_gold_of_one_rolling_is_left_out_whole(tmp_path):
    indices = [1, 2, 1_000_001, 1_000_002]
    golds = ["A", "A", "A", ""]
    questions(
        tmp_path,
        [{"index": i, "A": "cat", "B": "dog", "answer": g} for i, g in zip(indices, golds, strict=True)],
    )
    answers(tmp_path, ["B", "A", "A", "A"], indices)
    found = score(tmp_path / "Toy.jsonl", toy("mmbench_circular"), tmp_path)
    assert (found["score"], found["n"], found["missing_golds"]) == (0.0, 1, 2)


def test_a_set_of_hallusionbench_without_one_gold_is_left_out_whole(tmp_path):
    indices = [f"1_VD_chart_{i}_{j}_0" for i in range(2) for j in range(2)]
    golds = ["Yes", "", "Yes", "Yes"]
    questions(
        tmp_path,
        [{"index": i, "answer": g, "l2-category": "chart"} for i, g in zip(indices, golds, strict=True)],
    )
    answers(tmp_path, ["Yes"] * 4, indices)
    found = score(tmp_path / "Toy.jsonl", toy("hallusion_aggregate"), tmp_path)
    assert (found["score"], found["n"], found["missing_golds"]) == (100.0, 2, 2)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"answer_type": "integer"}, "row 0: question_type is empty; expected multi_choice or free_form"),
        (
            {"question_type": "multi_choice", "answer_option": "A"},
            "row 0: choices is empty; expected the list",
        ),
        (
            {"question_type": "multi_choice", "answer_option": "A", "choices": "[]"},
            r"row 0: choices is \[\];",
        ),
        (
            {"question_type": "multi_choice", "answer_option": "A", "choices": "cat, dog"},
            "choices is cat, dog;",
        ),
        (
            {"question_type": "free_form"},
            "row 0: answer_type is empty; expected integer, float, text or list",
        ),
    ],
)
def test_a_row_of_mathvista_that_does_not_say_how_it_is_read_is_named(tmp_path, cells, message):
    questions(tmp_path, [{"answer": "7", **cells}])
    answers(tmp_path, ["7"])
    with pytest.raises(GranvitError, match=f"Toy.tsv: .*{message}"):
        score(tmp_path / "Toy.jsonl", toy("mathvista"), tmp_path)


def test_a_file_without_any_gold_is_refused_with_what_to_take_instead(tmp_path):
    questions(tmp_path, [{"answer": ""}, {"answer": ""}])
    answers(tmp_path, ["x", "x"])
    with pytest.raises(GranvitError, match="no row has a gold answer.*validation file"):
        score(tmp_path / "Toy.jsonl", toy("anls"), tmp_path)


def test_ocrbench_adds_up_its_kinds_of_text(tmp_path):
    kinds = ["Regular Text Recognition", "Handwriting Recognition", "Doc-oriented VQA"]
    kinds.append("Handwritten Mathematical Expression Recognition")
    questions(tmp_path, [{"answer": "['x']", "category": kind} for kind in kinds])
    answers(tmp_path, ["x", "x", "no", "x"])
    found = score(tmp_path / "Toy.jsonl", toy("ocrbench_contains", name="OCRBench"), tmp_path)
    assert found["score"] == 750.0
    assert found["details"] == {**dict(zip(kinds, [1, 1, 0, 1], strict=True)), "Text Recognition": 2}


def test_questions_on_one_image_are_drawn_together(tmp_path):
    rows = [{"answer": "x", "image": picture(1 if i < 4 else i)} for i in range(6)]
    questions(tmp_path, rows)
    answers(tmp_path, ["x"] * 6)
    scored = mark(tmp_path / "Toy.jsonl", toy("anls"), tmp_path).scored
    assert len({point.unit for point in scored.points}) == 3


def test_a_bug_names_the_file_that_was_read(tmp_path, monkeypatch):
    questions(tmp_path, [{"answer": "x"}])
    answers(tmp_path, ["x"])
    monkeypatch.setattr("granvit.evaluation.score._cases", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as error:
        score(tmp_path / "Toy.jsonl", toy("anls"), tmp_path)
    assert error.value.__notes__ == [f"while reading {tmp_path / 'Toy.jsonl'}"]


def test_every_key_that_a_table_reads_is_there(world):
    data, folder = world
    assert len(BENCHMARKS) == 20
    for benchmark in BENCHMARKS:
        found = score(folder / f"{benchmark.slug}.jsonl", benchmark, data)
        assert {"score", "n", "rule", "judge", "failed_extractions", "official_data"} <= set(found)
        cells = load_tables(ROOT / "config" / "tables.yaml")["table1"].shared.benchmarks.values()
        wanted = {cell.split for cell in cells if cell.benchmark == benchmark.name and cell.split}
        assert wanted <= set(found.get("splits", {}))
        for split in wanted:
            low, high = found["splits"][split]["interval"]
            assert low <= found["splits"][split]["score"] <= high
