"""How long a caption gets, and where one that is too long, cut off or said again ends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from granvit.data.annotators.caption_answers import CAUSES, clean_caption, clean_region
from granvit.data.records.records import Rejected


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A dog on a mat. It is brown and seems to be asleep.", "A dog on a mat."),
        ("A dog on a mat, brown and white, asleep in the sun", "A dog on a mat, brown and white, asleep"),
        ("A group of people standing in front of a large white building", "A group of people standing"),
        ("The view of St. Mark's square in the summer with people",
         "The view of St. Mark's square in the summer"),
        ("Player in jersey number 10. He runs over the whole field.", "Player in jersey number 10."),
        ("Green bottle (glass, tall, narrow, with a white label) standing on a table",
         "Green bottle (glass, tall, narrow, with a white label) standing"),
        ('A bottle labeled "Cola. Since 1886. Taste" on the wooden table outside',
         'A bottle labeled "Cola. Since 1886. Taste"'),
        ("A sign that says “Stop, dear friends, and look at the house”", None),
        ('A sign that says "Welcome, friends, to our wonderful new family store here"', None),
        ("Keys [brass, old, long, bent, with a tag, worn, rusty and broken] here", None),
        ("一只红色的杯子，放在木制桌子上，旁边有一个白色的盘子", "一只红色的杯子，放在木制桌子上"),
        ("一只红色的杯子。放在木制桌子上，旁边有一个白色的盘子", "一只红色的杯子。"),
        ("赤いカップが木の棚の上に置かれています。その隣には白い皿があります。",
         "赤いカップが木の棚の上に置かれています。"),
        ("二十个字的中文说明不需要缩短因为它很短", "二十个字的中文说明不需要缩短因为它很短"),
        ("一只红色的杯子放在木制桌子上旁边有一个白色的盘子和一本打开的书籍以及一副眼镜和一支笔", None),
        ("one two three four five six seven eight nine ten of eleven", None),
        ("A man and a woman standing together holding hands and smiling happily", None),
    ],
)  # fmt: skip
def test_a_region_gets_ten_words_at_most_and_none_ends_in_the_middle_of_a_phrase(answer, caption):
    if caption is None:
        with pytest.raises(Rejected, match="^caption_too_long$"):
            clean_region(answer, 10)
    else:
        assert clean_region(answer, 10) == caption


def test_an_answer_stopped_at_the_limit_ends_with_its_last_whole_sentence_or_phrase():
    assert clean_caption("A dog. It lies on a mat. The sun sh", cut_off=True) == "A dog. It lies on a mat."
    assert clean_region("A brown dog on a ma", 10, cut_off=True) == "A brown dog"
    assert clean_region("A brown dog, a ma", 10, cut_off=True) == "A brown dog"
    assert clean_region("一只狗，一只", 10, cut_off=True) == "一只狗"
    for clean in (
        lambda: clean_caption("A dog lies on a", True),
        lambda: clean_region("A brow", 10, True),
        lambda: clean_region("A slice of on", 10, True),  # of onion
        lambda: clean_region('A sign that says "Welcome, frie', 10, True),
    ):
        with pytest.raises(Rejected, match="^caption_cut_off$"):
            clean()


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        (
            "A street in New York. On the left stands the church of St. Mark, whose do",
            "A street in New York.",
        ),
        ("A street in the U.S. with cars. A man (Mr. Smith) sits the", "A street in the U.S. with cars."),
        ("Cars are parked. 1. A tram stands here. 2. A bu", "Cars are parked. 1. A tram stands here."),
        ('He shouts "Stop!" Another man ru', 'He shouts "Stop!"'),
        ("街上有很多车。左边有一座教", "街上有很多车。"),
        ("街上有很多车。Some are red. A bu", "街上有很多车。Some are red."),
    ],
)
def test_a_global_caption_that_was_cut_off_ends_at_no_abbreviation_and_no_number_of_a_list(answer, caption):
    assert clean_caption(answer, cut_off=True) == caption


def test_what_shortening_leaves_as_a_refusal_is_one():
    answer = "The image is blurry, but it seems that someone drew several dogs"
    assert clean_caption(answer) == answer
    with pytest.raises(Rejected, match="^caption_refused$"):
        clean_region(answer, 10)
    with pytest.raises(Rejected, match="^caption_refused$"):
        clean_caption("The image is blurry. It sho", cut_off=True)


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A dog. A dog. A dog. A dog. A dog.", "A dog."),
        ("There is a cat. " * 40, "There is a cat."),
        ("A cat sits. A dog lies. " * 20, "A cat sits. A dog lies."),
        ("A cat sits.\nA cat sits.\nA cat", "A cat sits. A cat"),
        ("一只狗。" * 9, "一只狗。"),
    ],
)
def test_sentences_that_a_model_says_again_go(answer, caption):
    assert clean_caption(answer) == caption == clean_region(answer, 10)


@pytest.mark.parametrize(
    "caption",
    [
        "Mr. Smith stands left. Mr. Jones stands right.",
        "A dog. A dog and a cat.",
        'A sign that reads "Go! Go! Go!"',
        "Left is no. 1. Right is no. 2.",
        "一只狗。两只狗。",
    ],
)
def test_sentences_that_are_not_the_same_stay(caption):
    assert clean_caption(caption) == caption


@pytest.mark.parametrize(
    "piece",
    ["a", "a ", "*a ", "**a *b ", "***a", "`", "[1", "[1, ", "(1,", "1", "{ ", "<|a", "<think>", "</think>",
     '"a. ', "Caption: ", '**Caption:** "', "Sure! ", "I'm sorry, but ", "the content of the image ",
     "without a ", "St. ", "“", "，", "中", "中，", "there is no ", "- a\n", "(((", "\n", "x.", "\u0000"],
)  # fmt: skip
@pytest.mark.parametrize("cut_off", [False, True])
def test_an_answer_without_end_is_a_caption_or_none_like_any_other(piece, cut_off):
    # Nor does it take long: a pattern that tries all ways to split it would still be at it tomorrow.
    answer = piece * (10_000 // len(piece))
    for clean in (lambda: clean_region(answer, 10, cut_off), lambda: clean_caption(answer, cut_off)):
        try:
            assert clean().isprintable()
        except Rejected as cause:
            assert str(cause) in CAUSES


pieces = st.lists(
    st.sampled_from(
        list("aB1 .,\n\t-*_`#\"'“”()[]{é中，。…\u0000") + ["sorry ", "with ", "on ", "word ", "不 "]
    )
)


@settings(derandomize=True, max_examples=500, deadline=None)
@given(pieces.map("".join), st.integers(1, 12), st.booleans())
def test_any_answer_becomes_one_line_within_the_limit_or_a_known_cause(answer, most, cut_off):
    try:
        text = clean_region(answer, most, cut_off)
    except Rejected as cause:
        assert str(cause) in CAUSES
    else:
        assert 0 < len(text.split()) <= most and text == " ".join(text.split()) and text.isprintable()
        assert text.count("中") <= 2 * most
