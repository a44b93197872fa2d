"""Prompts: options, hints and images of rows that are not complete, as VLMEvalKit builds them."""

from __future__ import annotations

import json
import string

import pytest

from granvit.errors import GranvitError
from granvit.evaluation import check_cases
from granvit.evaluation.prompts import SELECT, build_messages

PICTURE = "iVBORw0KGgo" * 9


def texts(row, form="choice"):
    return [m["value"] for m in build_messages({"index": 3, **row}, form) if m["type"] == "text"]


def images(row, form="choice"):
    return [m["value"] for m in build_messages({"index": 3, **row}, form) if m["type"] == "image"]


def test_ten_options_are_listed_and_missing_ones_are_left_out():
    row = {"question": "Which?"} | {letter: f"thing {letter}" for letter in string.ascii_uppercase[:10]}
    row |= {"C": "", "D": None, "E": float("nan"), "F": 0}
    [text] = texts(row)
    assert [line[0] for line in text.split("Options:\n")[1].removesuffix(SELECT).splitlines()] == list(
        "ABFGHIJ"
    )
    assert "\nF. 0\n" in text


def test_a_question_without_options_is_not_asked_to_select_one():
    assert texts({"question": "How many?", "hint": "", "A": None}) == ["Question: How many?\n"]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ({}, ["3.png"]),
        ({"image": PICTURE}, ["3.png"]),
        ({"image": str([PICTURE])}, ["3.png"]),
        ({"image": str([PICTURE] * 3)}, ["3_0.png", "3_1.png", "3_2.png"]),
        ({"image": [PICTURE] * 2}, ["3_0.png", "3_1.png"]),
        ({"image": str([PICTURE] * 2), "image_path": "['a.jpg', 'b.jpg']"}, ["a.jpg", "b.jpg"]),
        ({"image": PICTURE, "image_path": "['a.jpg']"}, ["a.jpg"]),
        ({"image": PICTURE, "image_path": "[a.jpg"}, ["[a.jpg"]),
        ({"image": PICTURE, "image_path": float("nan")}, ["3.png"]),
    ],
)
def test_images_are_named_by_their_path_or_by_their_rows_index(cells, names):
    assert images({"question": "Which?", **cells}) == names


def test_an_interleaved_image_stands_where_it_is_named_as_often_as_it_is():
    row = {"question": "<image 2>? <image 1>", "A": "<image 2>", "image_path": "['x.png', 'y.png']"}
    assert images(row, "interleaved_choice") == ["y.png", "x.png", "y.png"]
    assert texts(row, "interleaved_choice") == ["Question: ", "? ", "\nOptions:\nA. ", "\n" + SELECT]
    with pytest.raises(GranvitError, match="names <image 3>"):
        build_messages(
            {"index": 3, "question": "<image 3>", "image_path": "['x.png', 'y.png']"}, "interleaved_choice"
        )


def check_prompt(folder, dataset, row, expected):
    case = {"rule": "prompt", "dataset": dataset, "tsv_row": {"index": 0, **row}, "expected": expected}
    (folder / "cases.jsonl").write_text(json.dumps(case), encoding="utf-8")
    _, complaints = check_cases.check(folder, {"DocVQA_VAL": "short", "MMStar": "choice"})
    return complaints


def test_another_part_of_a_benchmark_is_asked_as_the_part_that_is_listed(tmp_path):
    expected = [
        {"type": "image", "value": "0.png"},
        {"type": "text", "value": "What?\nAnswer the question using a single word or phrase."},
    ]
    assert check_prompt(tmp_path, "DocVQA_TEST", {"question": "What?"}, expected) == []
    with pytest.raises(GranvitError, match="no data set 'FigureQA'"):
        check_prompt(tmp_path, "FigureQA", {"question": "What?"}, expected)


def test_an_option_that_the_toolkit_reads_as_missing_is_no_option(tmp_path):
    expected = [
        {"type": "image", "value": "0.png"},
        {"type": "text", "value": f"Question: How many?\nOptions:\nA. none\n{SELECT}"},
    ]
    row = {"question": "How many?", "A": "none", "B": "None", "C": "N/A", "hint": "nan"}
    assert check_prompt(tmp_path, "MMStar", row, expected) == []
