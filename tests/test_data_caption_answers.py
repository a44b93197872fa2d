"""What of an answer becomes a caption."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from granvit.data.caption_answers import CAUSES, NoCaption, clean_caption, clean_region


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A red mug on a shelf.", "A red mug on a shelf."),
        ('"A red mug"', "A red mug"),
        ("“A red mug”", "A red mug"),
        ("- A red mug", "A red mug"),
        ("1. A red mug", "A red mug"),
        ("• A red mug\n• A blue plate", "A red mug; A blue plate"),
        ("A red mug\non a\n\nshelf", "A red mug on a shelf"),
        ("**Caption:** A red mug", "A red mug"),
        ('Answer: "A `red` *mug*"', "A red mug"),
        ("# A red mug", "A red mug"),
        ("```text\nA red mug\n```", "A red mug"),
        ("The second image shows a red mug.", "A red mug."),
        ("the region contains a red mug", "a red mug"),
        ("In the image, there is a red mug.", "A red mug."),
        ("A red\u0000 mug\ufffd\u200b", "A red mug"),
        ("一只红色的杯子", "一只红色的杯子"),
        ("42", "42"),
    ],
)
def test_markup_quotes_marks_and_labels_go(answer, caption):
    assert clean_region(answer, 10) == caption


@pytest.mark.parametrize(
    "caption",
    [
        'A sign that reads "STOP"',
        '"Stop" and "Go" on two signs',
        '"Sorry, we\'re closed" sign on a door',
        "A sign with the answer: 42",
        "The image of a saint on a wall",
        "2 men and 3.5 m of rope",
        "A well-known clock - wooden",
        "A label with snake_case_name",
        "No parking sign",
        "Unclear writing on a wall",
    ],
)
def test_what_belongs_to_the_caption_stays(caption):
    assert clean_region(caption, 10) == clean_caption(caption) == caption


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot identify people.",
        "Sorry, I am not able to see the image.",
        "I cannot determine what is in the box.",
        "Unfortunately, I can't see it.",
        "As an AI language model, I do not see images.",
        "It is difficult to tell what this is.",
        "No image was provided.",
        "The second image is not clear.",
        '"I apologize, but the picture is missing."',
        "抱歉，我无法识别图片中的内容。",
        "N/A",
        "Unknown.",
    ],
)
def test_refusals_are_no_captions(answer):
    for clean in (lambda: clean_region(answer, 10), lambda: clean_caption(answer)):
        with pytest.raises(NoCaption, match="^caption_refused$"):
            clean()


@pytest.mark.parametrize("answer", ["", "  \n ", "...", "**", '""', "```\n```", "\ufffd\u0007", "- "])
def test_answers_without_words_are_empty(answer):
    for clean in (lambda: clean_region(answer, 10), lambda: clean_caption(answer)):
        with pytest.raises(NoCaption, match="^caption_empty$"):
            clean()


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A dog on a mat. It is brown and seems to be asleep.", "A dog on a mat."),
        ("A dog on a mat, brown and white, asleep in the sun", "A dog on a mat, brown and white, asleep"),
        ("A group of people standing in front of a large white building", "A group of people standing"),
        ("The view of St. Mark's square in the summer with people",
         "The view of St. Mark's square in the summer"),
        ("one two three four five six seven eight nine ten of eleven", None),
        ("A man and a woman standing together holding hands and smiling happily", None),
    ],
)  # fmt: skip
def test_a_region_gets_ten_words_at_most_and_none_ends_in_the_middle_of_a_phrase(answer, caption):
    if caption is None:
        with pytest.raises(NoCaption, match="^caption_too_long$"):
            clean_region(answer, 10)
    else:
        assert clean_region(answer, 10) == caption


def test_an_answer_stopped_at_the_limit_ends_with_its_last_whole_sentence_or_phrase():
    assert clean_caption("A dog. It lies on a mat. The sun sh", cut_off=True) == "A dog. It lies on a mat."
    assert clean_region("A brown dog on a ma", 10, cut_off=True) == "A brown dog"
    for clean in (lambda: clean_caption("A dog lies on a", True), lambda: clean_region("A brow", 10, True)):
        with pytest.raises(NoCaption, match="^caption_cut_off$"):
            clean()


def test_a_global_caption_is_one_paragraph_of_any_length():
    answer = "# Scene\n\nThe image shows a street.\n\n- A red car\n- A tram\n"
    assert clean_caption(answer) == "Scene The image shows a street. A red car A tram"
    assert clean_caption("word " * 300 + "end.").split()[-1] == "end."


pieces = st.lists(
    st.sampled_from(list("aB1 .,\n\t-*_`#\"'“”()é中\u0000") + ["sorry ", "with ", "on ", "word "])
)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(pieces.map("".join), st.integers(1, 12), st.booleans())
def test_any_answer_becomes_one_line_within_the_limit_or_a_known_cause(answer, most, cut_off):
    try:
        text = clean_region(answer, most, cut_off)
    except NoCaption as cause:
        assert str(cause) in CAUSES
    else:
        assert 0 < len(text.split()) <= most and text == " ".join(text.split()) and text.isprintable()
