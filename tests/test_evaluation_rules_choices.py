"""Rules that read an option, a number, yes or no: what VLMEvalKit says of answers beside the point.

Every expected value was checked against the toolkit's own functions, in an environment of its own.
"""

from __future__ import annotations

import pytest

from granvit.errors import GranvitError
from granvit.evaluation.rules import apply
from granvit.evaluation.scoring.choices import infer_choice, mathvista_read

ANIMALS = {"A": "cat", "B": "dog", "C": "a red bird", "D": "none of the above"}
TEN = {
    "A": "one", "B": "two", "C": "three", "D": "four", "E": "five", "F": "six", "G": "seven", "H": "eight",
    "I": "nine", "J": "ten",
}  # fmt: skip
NESTED = {"A": "cat", "B": "catfish", "C": "3", "D": "13"}


@pytest.mark.parametrize(
    ("prediction", "choices", "letter"),
    [
        ("(B)", ANIMALS, "B"),
        ("**B**", ANIMALS, "B"),
        ("{B}", ANIMALS, "B"),
        ("#B!", ANIMALS, "B"),
        ("B) dog", ANIMALS, "B"),
        ("B\n", ANIMALS, "B"),
        ("\tB\r\n", ANIMALS, "B"),
        ("b", ANIMALS, None),  # letters are capital
        ("Ｂ", ANIMALS, None),  # and not full-width
        ("「B」", ANIMALS, None),
        ("B、", ANIMALS, None),
        ("'B'", ANIMALS, None),  # quotes, tags and slashes stick to the letter
        ("<answer>B</answer>", ANIMALS, None),
        ("B/C", ANIMALS, None),
        ("\\boxed{B}", ANIMALS, "B"),
        ("$B$", ANIMALS, None),
        ("A or B", ANIMALS, None),
        ("B, not A", ANIMALS, None),
        ("BB", ANIMALS, None),
        ("B B B", ANIMALS, "B"),  # one option, three times
        ("I think A cat", ANIMALS, "A"),
        ("A cat is what I see", ANIMALS, "A"),  # too early as a letter, but its text is there
        ("B it is for sure now", ANIMALS, None),  # six words: the letter is not among the last four
        ("it is B for sure now", ANIMALS, "B"),
        ("B is it, so B", ANIMALS, None),  # the first occurrence counts: five words
        ("Answer: B", ANIMALS, "B"),
        ("The correct answer is\n**B** and that is all I have to say about it", ANIMALS, "B"),
        ("answer is: B because of what can be seen there", ANIMALS, None),  # the colon stops the phrase
        ("the answer is an animal that I do not know", ANIMALS, "A"),  # the letter behind it, of any word
        ("the answer is elephant", ANIMALS, None),
        ("the answer is E because of the number shown", TEN, None),  # the phrase knows A to D only
        ("The answer is E", TEN, "E"),  # as a word it is read
        ("J", TEN, "J"),
        ("K", TEN, None),
        ("I", TEN, "I"),
        ("I am sure it is E", TEN, None),  # I is an option here
        ("I am sure it is E", ANIMALS, None),
        ("four", TEN, "D"),
        ("fourteen", TEN, "D"),  # four stands in it, ten does not
        ("tenfour", TEN, None),
        ("weight", TEN, "H"),  # eight
        ("catfish", NESTED, None),  # cat is in catfish
        ("cat", NESTED, "A"),
        ("13", NESTED, None),
        ("3", NESTED, "C"),
        ("DOG", ANIMALS, "B"),
        ("hotdog stand", ANIMALS, "B"),
        ("a dog " + "or something like it " * 4, ANIMALS, None),  # longer than all options twice
        ("", ANIMALS, None),
        (" ", ANIMALS, None),
        ("", {"A": "", "B": "x"}, "A"),  # an empty option stands in every answer
        ("Z", ANIMALS, "Z"),
        ("Z or B", ANIMALS, "B"),
        ("Cannot determine the answer: B", ANIMALS, "Z"),
        ("cannot determine the answer: B", ANIMALS, "B"),
        ("I can't process this file. B", ANIMALS, "Z"),
        ("Failed to obtain answer via API.", ANIMALS, None),
        ("yes, but no", {"A": "Yes", "B": "No"}, None),
        ("Nope", {"A": "Yes", "B": "No"}, "B"),
        ("Is 3.5", {"A": 3.5, "B": 4}, "A"),  # options that are numbers
        ("it's 3.5", {"A": 3.5, "B": 4}, "A"),
        ("It is 3.5", {"A": 3.5, "B": 4}, None),  # one letter too long
        ("東京", {"A": "東京", "B": "京都"}, "A"),
        ("STRASSE", {"A": "straße", "B": "weg"}, None),  # lower-case, not case-folded
        ("istanbul", {"A": "İstanbul", "B": "Ankara"}, None),
        (None, {"A": "none", "B": "one"}, None),  # compared as the text "None", which holds "one", too
        (float("nan"), {"A": "a", "B": "nan"}, None),
        (3, {"A": "3", "B": "4"}, "A"),
    ],
)
def test_the_option_that_an_answer_names(prediction, choices, letter):
    assert infer_choice(prediction, choices) == letter
    case = {"prediction": prediction, "choices": choices}
    assert [apply("multiple_choice", {**case, "answers": [gold]}) for gold in choices] == [
        int(gold == letter) for gold in choices
    ]


def test_an_answer_that_cannot_be_read_is_the_letter_z_but_in_a_rolling():
    letters = {letter: f"option number {i}" for i, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
    assert apply("multiple_choice", {"prediction": "no idea", "choices": letters, "answers": ["Z"]}) == 1
    row = {"prediction": "no idea", "choices": letters, "answer": "Z"}
    assert apply("mmbench_circular", {"rows": [row]}) == 0


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("12", "12", 1),
        ("It is 12.", "12", 1),
        ("120", "12", 1),  # the gold stands in it
        ("1200", "1,200", 0),
        ("A", "12", 1),
        ("(A).", "12", 1),
        ("The answer is A long story", "12", 1),
        ("B", "12", 0),
        ("Other Answers", "12", 0),
        ("other answers than 12", "12", 0),  # both options
        ("", "12", 0),
        ("12 " + "and more " * 9, "12", 0),
        ("A", "B", 0),  # a gold that is a capital letter is an option's letter
        ("B", "B", 1),
        ("C", "C", 0),  # ... of which there are but A and B
        ("no idea", "Z", 1),
        ("1", "['1', '2']", 0),
        ("['1', '2']", "['1', '2']", 1),
        ("paris", "Paris", 1),
        ("-5", "5", 1),
    ],
)
def test_an_open_mmmu_question_is_a_choice_between_its_gold_and_other_answers(prediction, gold, expected):
    assert apply("mmmu_open", {"prediction": prediction, "answers": [gold], "tsv_answer": gold}) == expected


@pytest.mark.parametrize(
    ("prediction", "label"),
    [
        ("Yes.", "Yes"),
        ("YES!", "Yes"),
        ("no, it is not", "No"),
        ("yes, but no", "Unknown"),
        ("yesno", "Unknown"),
        ("yes/no", "Unknown"),  # the slash becomes a space
        ("Yes/ it is", "Yes"),  # beside a space it vanishes
        ("Answer: yes", "Yes"),
        ("Answer:yes", "Unknown"),  # colons, quotes and stars are left alone
        ("**Yes**", "Unknown"),
        ("'no'", "Unknown"),
        ('"no"', "No"),
        ("no-one, yes", "Unknown"),  # the comma beside a space does not touch the hyphen
        ("no-one", "No"),
        ("no-one - yes", "Yes"),  # a hyphen beside a space removes all hyphens: "noone"
        ("1,000 yes-no", "Unknown"),  # a comma between digits removes every mark: "yesno"
        ("1,000 yes-men", "Unknown"),
        ("yes...", "Yes"),
        ("No.1", "Unknown"),  # a period before a digit stays
        ("N.o.", "No"),
        ("not", "Unknown"),
        ("", "Unknown"),
        (None, "Unknown"),
        ("ＹＥＳ", "Unknown"),
        ("はい", "Unknown"),
        ("yes\nbecause", "Yes"),
        ("yes\u3000sir", "Yes"),
    ],
)
def test_the_label_of_a_yes_no_answer(prediction, label):
    assert apply("yes_no", {"prediction": prediction}) == label


@pytest.mark.parametrize(
    ("case", "read"),
    [
        ({"question_type": "multi_choice", "prediction": "(B) dog", "choices": "['cat', 'dog']"}, "B"),
        ({"question_type": "multi_choice", "prediction": "neither", "choices": "['cat', 'dog']"}, None),
        ({"question_type": "free_form", "answer_type": "integer", "prediction": " 7 "}, "7"),
        ({"question_type": "free_form", "answer_type": "integer", "prediction": "seven"}, None),
    ],
)
def test_what_is_read_out_of_a_mathvista_answer(case, read):
    assert mathvista_read(case) == read


def numeric(prediction, kind, gold):
    return apply("mathvista", {
        "prediction": prediction, "question_type": "free_form", "answer_type": kind, "choices": None,
        "answer_option": None, "answers": [gold],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("prediction", "kind", "gold", "expected"),
    [
        ("7", "integer", "7", True),
        (" 7\n", "integer", "7", True),
        ("+7", "integer", "7", True),
        ("007", "integer", "7", True),
        ("７", "integer", "7", True),  # full-width digits are digits
        ("1_000", "integer", "1000", True),
        ("1,000", "integer", "1000", False),
        ("7.0", "integer", "7", False),
        ("7", "integer", "7.0", False),
        ("7%", "integer", "7", False),
        ("0", "integer", "0", True),
        ("-3", "integer", "-3", True),
        ("The answer is 7", "integer", "7", False),
        ("7.0", "float", "7", True),
        ("1e1", "float", "10.0", True),
        (".5", "float", "0.5", True),
        ("0.49", "float", "0.5", False),  # no rounding to the precision asked for
        ("nan", "float", "nan", False),
        ("inf", "float", "inf", True),
        ("", "float", "0.5", False),
        (None, "float", "0.5", False),
        ("[1, 2]", "list", "[1, 2]", False),
        ("x", "text", "x", False),
        ("x", "text", "None", True),
    ],
)
def test_a_number_of_mathvista_counts_if_python_reads_it_as_the_gold(prediction, kind, gold, expected):
    assert numeric(prediction, kind, gold) is expected


@pytest.mark.parametrize(
    ("prediction", "choices", "option", "expected"),
    [
        ("B", ["2/11", "8/11"], "B", True),
        ("(B) 8/11", "['2/11', '8/11']", "B", True),
        ("8/11", ["2/11", "8/11"], "B", True),
        ("18/11", ["2/11", "8/11"], "B", True),
        ("2/11 or 8/11", ["2/11", "8/11"], "B", False),
        ("Z", ["2/11", "8/11"], "B", False),
        ("nothing", ["2/11", "8/11"], None, False),
    ],
)
def test_a_choice_of_mathvista(prediction, choices, option, expected):
    case = {"question_type": "multi_choice", "answer_type": "text", "answers": ["x"]}
    case |= {"prediction": prediction, "choices": choices, "answer_option": option}
    assert apply("mathvista", case) is expected


def rows_of(*hits, keys):
    return [
        {"l2_category": "map", "answer": "Yes", "prediction": "Yes" if hit else "No"}
        | dict(zip(("set_id", "figure_id", "question_id"), key, strict=True))
        for hit, key in zip(hits, keys, strict=True)
    ]


def test_figures_and_questions_of_other_sets_or_categories_are_others():
    keys = [(0, 0, 0), (1, 0, 0), (0, 0, 1)]
    rows = rows_of(True, False, True, keys=keys)
    assert apply("hallusion_aggregate", {"rows": rows}) == pytest.approx(
        {"aAcc": 200 / 3, "fAcc": 50.0, "qAcc": 200 / 3}
    )
    rows[1] |= {"set_id": "0", "l2_category": "chart"}
    assert apply("hallusion_aggregate", {"rows": rows})["fAcc"] == 50.0


def test_a_hallusion_gold_is_compared_in_its_own_spelling():
    rows = rows_of(True, True, keys=[(0, 0, 0), (0, 0, 1)])
    rows[0]["answer"] = "yes"  # the labels are Yes and No
    assert apply("hallusion_aggregate", {"rows": rows}) == {"aAcc": 50.0, "fAcc": 0.0, "qAcc": 50.0}


def test_a_pair_of_mmvp_needs_both_rows():
    rows = [
        {
            "question": f"q{i // 2}",
            "A": "Open",
            "B": "Closed",
            "answer": "AB"[i % 2],
            "prediction": prediction,
        }
        for i, prediction in enumerate(["A", "It is closed", "(A)", "open", "A", "Sorry"])
    ]
    assert apply("mmvp_pair", {"rows": rows}) == pytest.approx({"pair_accuracy": 1 / 3, "accuracy": 4 / 6})


def test_one_broken_pair_of_mmvp_is_refused_among_whole_ones():
    row = {"A": "Open", "B": "Closed", "answer": "A", "prediction": "A"}
    rows = [row | {"question": question} for question in ("q0", "q0", "q1", "q2")]
    with pytest.raises(GranvitError, match="rows must lie in pairs that share their question"):
        apply("mmvp_pair", {"rows": rows})
