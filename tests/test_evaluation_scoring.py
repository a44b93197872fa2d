"""The scoring rules: agreement with the sample cases, and the oddities that a score is comparable by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from granvit.errors import GranvitError
from granvit.evaluation import check_cases
from granvit.evaluation.rules import apply
from granvit.evaluation.scoring.choices import infer_choice

SAMPLES = Path("../shared/scoring_cases")
ANIMALS = {"A": "cat", "B": "dog", "C": "a red bird", "D": "none of the above"}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample cases beside the repository")
def test_every_sample_case_is_scored_as_the_toolkit_scores_it(capsys):
    assert check_cases.main([str(SAMPLES)]) == 0
    assert "total" in capsys.readouterr().out


def test_a_wrong_expectation_makes_the_check_fail_and_is_shown(tmp_path, capsys):
    (tmp_path / "anls.jsonl").write_text(
        json.dumps({"rule": "anls", "prediction": "a", "answers": ["a"], "expected": 0.0}) + "\n"
    )
    assert check_cases.main([str(tmp_path)]) == 1
    assert "1 disagree" in capsys.readouterr().out


def test_a_rule_that_does_not_exist_is_named_and_the_known_ones_are_listed(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"rule": "bleu", "expected": 1}\n')
    with pytest.raises(GranvitError, match="x.jsonl: line 1: there is no rule 'bleu'.*anls"):
        check_cases.check(tmp_path, {})


def test_a_case_that_lacks_what_its_rule_needs_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('\n{"rule": "anls", "prediction": "a", "expected": 1}\n')
    with pytest.raises(GranvitError, match="line 2: a case of the rule 'anls' needs the key 'answers'"):
        check_cases.check(tmp_path, {})


def guesses(folder, wrong, right):
    """Cases of exact match, of which ``wrong`` expect a hit that is none."""
    case = {"rule": "exact_match", "prediction": "guess", "answers": ["gold"]}
    lines = [case | {"expected": 1.0}] * wrong + [case | {"expected": 0.0}] * right
    (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def never_guess(prediction):
    return check_cases.Departure(
        "no guessing",
        "exact_match",
        lambda case: case["prediction"] == prediction,
        "a guess is not an answer",
    )


def test_a_declared_departure_is_counted_by_its_name_and_not_as_agreement(tmp_path, capsys, monkeypatch):
    guesses(tmp_path, wrong=1, right=19)
    monkeypatch.setattr(check_cases, "DEPARTURES", (never_guess("guess"),))
    assert check_cases.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == (
        "exact_match 19 agree 1 declared departures 0 disagree (no guessing 1)"
    )
    assert lines[-1].startswith("total") and "1 declared departures" in lines[-1]


def test_departures_beyond_five_percent_of_a_rules_cases_fail_the_check(tmp_path, capsys, monkeypatch):
    guesses(tmp_path, wrong=1, right=18)
    monkeypatch.setattr(check_cases, "DEPARTURES", (never_guess("guess"),))
    assert check_cases.main([str(tmp_path)]) == 1
    assert "more than 5%" in capsys.readouterr().out


def test_a_departure_covers_only_the_cases_it_was_declared_for(tmp_path, capsys, monkeypatch):
    guesses(tmp_path, wrong=1, right=19)
    monkeypatch.setattr(check_cases, "DEPARTURES", (never_guess("another answer"),))
    assert check_cases.main([str(tmp_path)]) == 1
    assert "expected 1.0, scored 0.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [
        ("The answer is (B).", "B"),
        ("B is what I would say after looking for a very long while at it", None),  # too early in the answer
        ("I think that the answer is **b** in this case because of many other things", "B"),
        ("it is definitely a dog", "B"),  # by its text
        ("The answer is cat.", "C"),  # the toolkit reads the first letter behind "answer is"
        ("A dog or a cat", None),
        ("Z", "Z"),
        ("Failed to obtain answer via API: dog", "B"),  # letters are not read from a failed call, texts are
    ],
)
def test_the_letter_that_an_answer_names(prediction, letter):
    assert infer_choice(prediction, ANIMALS) == letter


def test_an_open_mmmu_question_counts_a_bare_a_as_right():
    assert apply("mmmu_open", {"prediction": "A", "answers": ["42"]}) == 1
    assert apply("mmmu_open", {"prediction": "B", "answers": ["42"]}) == 0


def test_anls_divides_by_the_unstripped_length():
    assert apply("anls", {"prediction": "abcx    ", "answers": ["abcd"]}) == pytest.approx(1 - 1 / 8)


def test_relaxed_accuracy_forgives_five_percent_but_not_around_zero():
    assert apply("relaxed_accuracy", {"prediction": " 20 ", "answers": ["21"]}) == 1
    assert apply("relaxed_accuracy", {"prediction": "20", "answers": ["21.1"]}) == 0
    assert apply("relaxed_accuracy", {"prediction": "0.0", "answers": ["0"]}) == 0


def test_vqa_accuracy_leaves_one_annotator_out():
    assert apply(
        "vqa_accuracy", {"prediction": "Two cats.", "answers": ["2 cats."] * 3 + ["dog"] * 7}
    ) == pytest.approx(0.9)
    assert apply("vqa_accuracy", {"prediction": "cat", "answers": ["cat"]}) == 0


def test_a_contraction_matches_with_and_without_its_apostrophe():
    for short, whole in (("dont", "don't"), ("wouldn'tve", "wouldn't've"), ("yall", "y'all")):
        assert apply("vqa_accuracy", {"prediction": short, "answers": [whole] * 10}) == 1


def test_formulas_keep_their_case_and_lose_their_spaces():
    formulas = {"category": "Handwritten Mathematical Expression Recognition"}
    assert apply("ocrbench_contains", {"prediction": "X ^ 2", "answers": ["X^2"], **formulas}) == 1
    assert apply("ocrbench_contains", {"prediction": "x^2", "answers": ["X^2"], **formulas}) == 0


def test_mathvista_reads_numbers_only_of_the_kind_asked_for():
    case = {"question_type": "free_form", "choices": None, "answer_option": None}
    assert apply("mathvista", {**case, "prediction": " 7 ", "answer_type": "integer", "answers": ["7"]})
    assert not apply("mathvista", {**case, "prediction": "7.0", "answer_type": "integer", "answers": ["7"]})
    assert apply("mathvista", {**case, "prediction": "7", "answer_type": "float", "answers": ["7.0"]})
    assert not apply("mathvista", {**case, "prediction": "x", "answer_type": "text", "answers": ["x"]})


def test_a_box_in_thousandths_in_pixels_and_in_shares_is_the_same_box():
    case = {"answers": [[1200, 300, 1800, 900]], "width": 2000, "height": 1000}
    for text in ("[0.6, 0.3, 0.9, 0.9]", "[600, 300, 900, 900]", "[1800, 900, 1200, 300]"):
        assert apply("refcoco_iou50", {"prediction": text, **case}) == 1
    assert apply("refcoco_iou50", {"prediction": "[0.6, 0.3, 0.9]", **case}) == 0


def test_mmvet_without_a_judge_wants_all_elements_of_one_alternative():
    def grade(prediction):
        return apply("mmvet_contains", {"prediction": prediction, "answers": ["-1<AND>-5<OR>none"]})

    assert [grade("x = -1 or x = -5"), grade("x = -1"), grade("None."), grade("x = 1")] == [
        1.0,
        0.5,
        1.0,
        0.0,
    ]


def test_one_wrong_answer_fails_its_figure_and_its_question():
    rows = [
        {
            "l2_category": "map",
            "set_id": 0,
            "figure_id": f,
            "question_id": q,
            "answer": "Yes",
            "prediction": p,
        }
        for f, q, p in ((0, 0, "Yes"), (0, 1, "No"), (1, 0, "yes."), (1, 1, "Yes"))
    ]
    assert apply("hallusion_aggregate", {"rows": rows}) == {"aAcc": 75.0, "fAcc": 50.0, "qAcc": 50.0}
