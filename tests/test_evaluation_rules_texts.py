"""Rules that compare texts and boxes: what VLMEvalKit says of spellings, numbers and scales at the edges.

Every expected value was checked against the toolkit's own functions (ROUGE-L: against rouge-score).
"""

from __future__ import annotations

import pytest

from granvit.evaluation.rules import apply

FORMULAS = "Handwritten Mathematical Expression Recognition"


def value(rule, prediction, *golds, **more):
    return apply(rule, {"prediction": prediction, "answers": list(golds), **more})


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("", [""], 1.0),
        ("", ["a"], 0.0),
        ("   ", [""], 1.0),
        ("a", [""], 0.0),
        ("abcd", ["abxy"], 0.5),  # half still counts
        ("abc", ["axy"], 0.0),
        ("ABC", ["abc"], 1.0),
        ("a   b", ["a b"], 1.0),
        ("a b", ["ab"], 2 / 3),
        ("abcd      ", ["abce"], 0.9),  # spaces that cost nothing lengthen the measure
        ("x", ["y", "x", "z"], 1.0),
        ("İ", ["i"], 0.0),  # lower-case İ is two characters
        ("ß", ["ss"], 0.0),
        ("ß", ["ß"], 1.0),
        ("东京", ["東京"], 0.5),
        (12, [12], 1.0),
        (None, ["none"], 1.0),
        ("42.", ["42"], 2 / 3),
    ],
)
def test_anls(prediction, golds, expected):
    assert value("anls", prediction, *golds) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("105", "100", 1),
        ("94.9", "100", 0),
        ("-105", "-100", 1),
        ("100", "-100", 0),
        ("5%", "0.05", 1),
        ("5%", "5", 0),
        ("5", "5%", 0),
        ("50%%", "0.5", 1),  # all percent signs at the end go
        ("%", "%", 1),
        ("1,000", "1000", 0),  # commas and currencies make a text of a number
        ("1,000", "1,000", 1),
        ("$5", "5", 0),
        ("1e3", "1000", 1),
        ("1_000", "1000", 1),
        ("１２", "12", 1),
        ("0", "0", 1),
        ("0.0", "0", 0),
        ("0%", "0", 0),
        ("0.01", "0%", 0),
        (" 12 ", "12", 1),
        ("yes", " yes", 0),  # the gold is not stripped as a text
        ("12", " 12 ", 1),  # but read as a number
        ("YES", "yes", 1),
        ("yes.", "yes", 0),
        ("", "", 1),
        ("nan", "nan", 0),  # no number is near to it, itself included
        ("inf", "inf", 0),
        ("inf", "5", 0),
        (20, 21, 1),
        ("ten", "10", 0),
    ],
)
def test_relaxed_accuracy(prediction, gold, expected):
    assert value("relaxed_accuracy", prediction, gold) == expected


def test_relaxed_accuracy_takes_the_best_gold():
    assert value("relaxed_accuracy", "7", "12", "7.2", "x") == 1


@pytest.mark.parametrize(
    ("prediction", "gold", "matches"),
    [
        ("The two dogs!", "2 dogs", True),
        ("none", "0", True),
        ("eleven", "11", False),
        ("a", "the", True),  # only articles: nothing is left of either
        ("", "an", True),
        ("1,000", "1000", True),  # a comma between digits removes every mark
        ("1,000-2", "10002", True),
        ("t-shirt", "t shirt", True),  # else a mark that touches no space becomes one
        ("t- shirt", "t shirt", True),
        ("t - shirt", "t shirt", True),
        ("3.5", "35", False),
        ("p.m.", "pm", True),
        ("dr.who", "drwho", True),
        ("www.x.com", "wwwxcom", True),
        ("it's", "its", False),
        ("dont", "don't", True),
        ("DONT!", "don't", True),
        ("youre", "you're", True),
        ("somebody'd", "somebodyd", True),
        ("he'dve", "hed've", True),
        ("twas", "'twas", True),
        ("let's", "lets", False),
        ("im", "i'm", False),  # the table has "Im", which no lower-case word is
        ("Coca\nCola", "coca\tcola", True),
        ("50%", "50", False),
        ("$5", "5", False),
        ("a:b", "a b", False),
        ("cafe", "café", False),
        ("．", ".", False),
        (2, "two", True),
    ],
)
def test_the_normal_form_of_vqa(prediction, gold, matches):
    assert value("vqa_accuracy", prediction, *[gold] * 10) == float(matches)
    assert value("vqa_accuracy", gold, *[prediction] * 10) == float(matches)


@pytest.mark.parametrize(
    ("same", "others", "expected"),
    [(1, 0, 0), (2, 0, 1 / 3), (1, 9, 0.3), (2, 8, 0.6), (3, 7, 0.9), (4, 6, 1)],
)
def test_each_annotator_is_compared_with_the_others(same, others, expected):
    assert value("vqa_accuracy", "cat", *["cat"] * same, *["dog"] * others) == pytest.approx(expected)


def test_only_thirty_two_lone_periods_are_removed():
    assert value("vqa_accuracy", "." * 32 + "x", *["x"] * 4) == 1
    assert value("vqa_accuracy", "." * 33 + "x", *["x"] * 4) == 0


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        (" Left\n", ["left"], 1),
        ("left", [" LEFT "], 1),
        ("left.", ["left"], 0),
        ("the left", ["left"], 0),
        ("", [""], 1),
        ("a  b", ["a b"], 0),
        ("ß", ["SS"], 0),
        ("x", ["x", "y"], 0.5),
        (3, ["3"], 1),
    ],
)
def test_exact_match(prediction, golds, expected):
    assert value("exact_match", prediction, *golds) == expected


@pytest.mark.parametrize(
    ("prediction", "golds", "category", "expected"),
    [
        ("It says STOP.", ["stop"], "Regular Text Recognition", 1),
        ("S T O P", ["stop"], "Regular Text Recognition", 0),
        ("stop\nsign", ["stop sign"], "Regular Text Recognition", 1),
        ("stop\tsign", ["stop sign"], "Regular Text Recognition", 0),
        ("stop\r\nsign", ["stop sign"], "Regular Text Recognition", 0),
        ("12345", ["234"], "Digit String Recognition", 1),
        ("", [""], "Doc-oriented VQA", 1),
        ("anything", [" "], "Doc-oriented VQA", 1),
        ("x", ["y", " X "], "Doc-oriented VQA", 1),
        ("ＳＴＯＰ", ["stop"], "Regular Text Recognition", 0),  # full-width letters are not folded
        ("12", [12], "Key Information Extraction", 1),
        ("x ^ { 2 }", ["x^{2}"], FORMULAS, 1),
        ("X^{2}", ["x^{2}"], FORMULAS, 0),
        ("x^\n{2}", ["x^{2}"], FORMULAS, 1),
        ("x^\t{2}", ["x^{2}"], FORMULAS, 0),
        ("X ^ 2", ["x^2"], "Doc-oriented VQA", 0),
    ],
)
def test_ocrbench_looks_for_the_gold_in_the_answer(prediction, golds, category, expected):
    assert value("ocrbench_contains", prediction, *golds, category=category) == expected


GOLD = [1200, 300, 1800, 900]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("[0.6, 0.3, 0.9, 0.9]", 1),
        ("[.6,.3,.9,.9]", 1),
        ("[0.6 0.3 0.9 0.9]", 1),
        ("[[0.6, 0.3, 0.9, 0.9]]", 1),
        ("(0.6,0.3),(0.9,0.9)", 1),
        ("<box>(600,300),(900,900)</box>", 1),  # thousandths
        ("[600, 300, 900, 900] of [0, 0, 5, 5]", 1),  # the first box
        ("Of 3 dogs it is [0.6, 0.3, 0.9, 0.9]", 1),  # a box in brackets goes before numbers
        ("Of 3 dogs it is (0.6, 0.3, 0.9, 0.9)", 0),  # without one the first four numbers are taken
        ("[1, 2, 3] then [0.6, 0.3, 0.9, 0.9]", 1),
        ("[0.6, 0.3, 0.9, 0.9, 0.5]", 1),  # five numbers are no box, but the first four are numbers
        ("[0.9, 0.9, 0.6, 0.3]", 1),  # corners in any order
        ("[0.9, 0.3, 0.6, 0.9]", 1),
        ("[1200, 300, 1800, 900]", 1),  # pixels, as one of them is beyond 1,000
        ("[600, 300, 900, 1001]", 0),  # the same thousandths but for one: all are pixels
        ("[0.6, 0.3, 0.9, 1.5]", 1),
        ("[600, 300, 900, 1000]", 1),
        ("[1.5, 0.3, 0.9, 0.9]", 0),  # up to 1.5 it is a share: cut at the image's edge
        ("[0.6, 0.3, 0.9, 1.6]", 0),  # beyond it, thousandths
        ("[0.6, 0.3, 0.9]", 0),
        ("[0.6; 0.3; 0.9; 0.9]", 1),
        ("[60%, 30%, 90%, 90%]", 0),  # read as thousandths
        ("x1=0.6, y1=0.3, x2=0.9, y2=0.9", 0),  # the digits of the names are numbers
        ("[6e-1, 3e-1, 9e-1, 9E-1]", 1),
        ("[0.6-0.3-0.9-0.9]", 0),  # the hyphens are signs
        ("[+0.6, +0.3, +0.9, +0.9]", 1),
        ("[-0.6, 0.3, 0.9, 0.9]", 0),
        ("[0.6, 0.3, 0.9, 0.9", 1),
        ("[0.6，0.3，0.9，0.9]", 1),
        ("[０.６, ０.３, ０.９, ０.９]", 1),  # full-width digits are digits
        ("[1200., 300., 1800., 900.]", 1),  # the points separate: 1200, 300, ...
        ("[1e999, 300, 1200, 900]", 1),  # beyond the image: cut at its edge
        ("[0, 0, 0, 0]", 0),
        ("[0.6, 0.3, 0.6, 0.9]", 0),
        ("none", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_a_box_is_read_from_nearly_any_four_numbers(prediction, expected):
    assert value("refcoco_iou50", prediction, GOLD, width=2000, height=1000) == expected


def test_an_overlap_of_exactly_half_counts():
    assert value("refcoco_iou50", "[0, 0, 0.5, 0.5]", [0, 0, 10, 5], width=10, height=10) == 1
    assert value("refcoco_iou50", "[0, 0, 0.499, 0.5]", [0, 0, 10, 5], width=10, height=10) == 0


@pytest.mark.parametrize("size", [(1, 10), (10, 1), (1, 1)])
def test_a_box_is_found_in_an_image_one_pixel_wide_or_high(size):
    gold, (width, height) = [0, 0, *size], size
    assert value("refcoco_iou50", "[0, 0, 1, 1]", gold, width=width, height=height) == 1


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (float("nan"), 10)])
def test_nothing_is_found_in_an_image_without_a_size(size):
    gold, (width, height) = [0, 0, 10, 5], size
    assert value("refcoco_iou50", "[0, 0, 1, 0.5]", gold, width=width, height=height) == 0


@pytest.mark.parametrize(
    ("prediction", "golds", "expected"),
    [
        ("A red car.", ["a red car"], 1.0),
        ("", ["a"], 0.0),
        ("a", [""], 0.0),
        ("a b c", ["c b a", "a x c"], 2 / 3),
        ("a_b", ["a b"], 1.0),
        ("café", ["caf"], 1.0),  # only a-z and digits make words
        ("東京", ["東京"], 0.0),
        ("runs", ["run"], 0.0),
    ],
)
def test_rouge_l(prediction, golds, expected):
    assert value("rouge_l", prediction, *golds) == pytest.approx(expected)
