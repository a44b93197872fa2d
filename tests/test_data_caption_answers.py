"""What of an answer becomes a caption."""

from __future__ import annotations

import pytest

from granvit.data.annotators.caption_answers import clean_caption, clean_region
from granvit.data.records.records import Rejected


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
        ("In the image, there are two red mugs.", "Two red mugs."),
        ("The content of the box is a red mug.", "A red mug."),
        ("The content within the box shows a red mug.", "A red mug."),
        ("The content inside the box [12, 33, 44, 55] is a red mug.", "A red mug."),
        ("The highlighted part of the image shows a red mug.", "A red mug."),
        ("Image 2 shows a red mug.", "A red mug."),
        ("Sure! Here is the description: A red mug.", "A red mug."),
        ("Sure, here is a description: A red mug.", "A red mug."),
        ("Here's a description of the content: **A red mug**", "A red mug"),
        ("图中显示一只红色的杯子", "一只红色的杯子"),
        ("描述：一只红色的杯子", "一只红色的杯子"),
        ('The bounding box contains: "STOP"', "STOP"),
        ('The image shows "A"', "A"),
        ('"A red mug".', "A red mug."),
        ('"A red mug.".', "A red mug."),
        ("***A red mug***", "A red mug"),
        ("A red mug<|im_end|>", "A red mug"),
        ("<|object_ref_start|>A red mug<|object_ref_end|>", "A red mug"),
        ("<think>It is red.\nA mug?</think>\n\nA red mug", "A red mug"),
        ("It is red. A mug?</think>A red mug", "A red mug"),
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
        "2*3*4 = 24",
        "f**k this s**t",
        "f__init__ in code",
        "A vector (1, 2) and an array [3, 4, 5]",
        "$5 bill [torn] {worn}",
        "(555) 123-4567",
        "12, 34, 56, 78",
        '"a" and "b".',
        "The contents of the box are spilled",
        "Surely a red mug",
        "A person whose face is not visible",
        "Nothing but sand",
        "Nothing is impossible poster",
        "None shall pass sign",
        "Not for sale sign",
        "A blurry photo of a dog",
        "The image is blurry but shows a dog",
        "The area is dark",
        "I can't breathe sign held by protester",
        "I can't help falling in love print",
        "I can't say no mug",
        "I don't like Mondays mug",
        "I do not enter sign",
        "I'm sorry greeting card on table",
        "Sorry, I missed you note on door",
        "Unfortunately named shop",
        "Please provide exact change sign",
        "我不能呼吸的标语",
        "作为一个孩子，他很高兴",
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
        "The image is too blurry to describe.",
        "The image is blurry and unclear.",
        "The content is not visible.",
        "The region is not visible.",
        "The content of the box is not clear, but appears to be a dog.",
        "The content of the box is not visible.",
        "The provided image does not contain any discernible content.",
        "The image does not contain enough information to describe the content.",
        "It appears that the image is corrupted.",
        "The image you provided appears to be blank.",
        "Cannot determine.",
        "Can't tell.",
        "I can't clearly make out what it says.",
        "Not enough information.",
        "Not visible",
        "Nothing is visible",
        "No visible content.",
        "Please provide the image.",
        "Sorry, no image.",
        "Without the image, I can't describe it.",
        "Based on the image provided, I am unable to identify the person.",
        "In the image, there is nothing visible.",
        "抱歉，我无法识别图片中的内容。",
        "作为一个AI，我看不到图片。",
        "N/A",
        "Unknown.",
    ],
)
def test_refusals_are_no_captions(answer):
    for clean in (lambda: clean_region(answer, 10), lambda: clean_caption(answer)):
        with pytest.raises(Rejected, match="^caption_refused$"):
            clean()


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n[{"bbox_2d": [12, 34, 56, 78], "label": "dog"}]\n```',
        '```json\n[\n\t{"bbox_2d": [12, 34, 56, 78], "label": "dog"}\n]\n```',
        '{"bbox_2d": [12, 34, 56, 78], "label": "dog"}',
        '["dog", "cat"]',
        "[12, 34, 56, 78]",
        "[[12, 34, 56, 78]]",
        "(12,34),(56,78)",
        "<|box_start|>(12,34),(56,78)<|box_end|>",
        "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(12,34),(56,78)<|box_end|>",
        "A dog at [12, 34, 56.5, 78].",
    ],
)
def test_json_and_the_corners_of_boxes_are_no_captions(answer):
    for clean in (lambda: clean_region(answer, 10), lambda: clean_caption(answer)):
        with pytest.raises(Rejected, match="^caption_no_prose$"):
            clean()


def test_json_that_was_cut_off_is_no_caption_either():
    for clean in (clean_caption, lambda answer, cut: clean_region(answer, 10, cut)):
        with pytest.raises(Rejected, match="^caption_no_prose$"):
            clean('[{"bbox_2d": [12, 34, 5', True)


@pytest.mark.parametrize(
    "answer", ["", "  \n ", "...", "**", '""', "```\n```", "\ufffd\u0007", "- ", "<think>A dog", "<|im_end|>"]
)
def test_answers_without_words_are_empty(answer):
    for clean in (lambda: clean_region(answer, 10), lambda: clean_caption(answer)):
        with pytest.raises(Rejected, match="^caption_empty$"):
            clean()


@pytest.mark.parametrize(
    "answer", ["The second image shows", "The second image shows a", "In the image, there is the"]
)
def test_a_lead_in_to_nothing_is_empty(answer):
    with pytest.raises(Rejected, match="^caption_empty$"):
        clean_region(answer, 10)


def test_a_global_caption_is_one_paragraph_of_any_length():
    answer = "# Scene\n\nThe image shows a street.\n\n- A red car\n- A tram\n"
    assert clean_caption(answer) == "Scene The image shows a street. A red car A tram"
    assert clean_caption("word " * 300 + "end.").split()[-1] == "end."
