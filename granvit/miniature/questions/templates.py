"""Every constant text of the miniature's questions, and the forms in which benchmarks ask them.

The forms are those that VLMEvalKit builds from its TSV files (short answer, multiple choice, MathVista's
hints), so that instruction data and evaluation agree to the character. A form wraps a plain question such as
``What colour is the large face?``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from granvit.data.records.prompts import GLOBAL_CAPTION_QUESTION, bbox2caption_question, caption2bbox_question

LETTERS = "ABCD"
LINE_NUMBERS = ("1", "2", "3", "4", "5")
LABELS = ("1", "2", "3", "4")  # drawn on the objects of a diagram

RELATIONS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
SCENE_TEMPLATES = {
    "colour": "What colour is the {thing}?",
    "shape": "What shape is the {thing}?",
    "texture": "Is the {thing} plain or striped?",
    "size": "Is the {thing} small or large?",
    "place": "Where is the {thing}?",
    "identity": "What is at the {thing} of the image?",
    "count": "How many {thing} are there?",
    "exists": "Is there a {thing} in the image?",
    "attribute": "Is the {thing} {value}?",
    **{relation: f"Is the {{thing}} {words} the {{other}}?" for relation, words in RELATIONS.items()},
    "same": "Do the {thing} and the {other} have the same {value}?",
    "box": "Which bounding box holds the {thing}?",
    "label": "Which label is on the {thing}?",
    "magnet colour": "What colour is the magnet?",
    "magnet shape": "What shape is the magnet?",
    "magnet place": "Where is the magnet?",
    "image": "Which image has a {thing}?",
}
DOCUMENT_TEMPLATES = {
    "line": "What is written on line {thing}?",
    "lines": "How many lines of text are there?",
    "all": "what is written in the image?",
    "word": "Is the word {thing} in the image?",
    "title": "What is the title?",
    "value": "What is the value of {thing}?",
    "highest": "Which label has the highest value?",
    "lowest": "Which label has the lowest value?",
    "label of": "Which label has the value {thing}?",
    "higher": "Is the value of {thing} higher than the value of {other}?",
    "difference": "What is the difference between the values of {thing} and {other}?",
    "price": "What is the price of {thing}?",
    "dearest": "Which item has the highest price?",
    "cheapest": "Which item has the lowest price?",
    "total": "What is the total?",
    "kind": "What kind of image is this?",
    "number": "what is the number in the image?",
}
DOCUMENT_NOUNS = {"text": "page", "chart": "chart", "table": "table", "receipt": "receipt", "rich": "sign"}
# What an object description is made of besides attribute words; see `scenes.describe`.
DESCRIPTIONS = ("{thing} at the {place}", "{thing} with label {label}")
# The longer sentences of RefCOCOg.
SENTENCES = {relation: f"{{thing}} {words} {{other}}" for relation, words in RELATIONS.items()}
MAGNET_HINT = "The {thing} is a magnet."

SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
QUESTION_PREFIX = "Question: "
CHOICE_SUFFIX = "Please select the correct answer from the options above. \n"
MATH_INTEGER = (
    "Hint: Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end.\nQuestion: {question}"
)
MATH_CHOICE = (
    "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"
    "Question: {question}\nChoices:"
)


def short_form(question: str) -> str:
    """GQA, DocVQA, ChartQA, InfoVQA, TextVQA: the question and the request for a short answer."""
    return question + SHORT_ANSWER


def choice_form(question: str, options: Sequence[str], hint: str | None = None) -> str:
    """Multiple choice as MMBench and its kin ask it; the answer is the letter."""
    lines = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, options, strict=False))
    lead = f"Hint: {hint}\n" if hint else ""
    return f"{lead}{QUESTION_PREFIX}{question}\nOptions:\n{lines}{CHOICE_SUFFIX}"


def open_form(question: str) -> str:
    """MMMU's open questions: the multiple-choice prompt without options."""
    return f"{QUESTION_PREFIX}{question}\n"


def math_integer_form(question: str) -> str:
    """MathVista, free form with an integer answer."""
    return MATH_INTEGER.format(question=question)


def math_choice_form(question: str, options: Sequence[str]) -> str:
    """MathVista, multiple choice; the answer is the letter."""
    lines = "".join(f"\n({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    return MATH_CHOICE.format(question=question) + lines


def _pieces(template: str) -> list[str]:
    """The constant pieces of a format string worth a token of their own: two words or more, or a line break.

    A word in a slot keeps the space before it, as everywhere else in a text, so a piece before a slot gives
    it up; not so before ``{question}``, whose first piece has no space of its own.
    """
    pieces = []
    for piece, slot in re.findall(r"([^{]*)(\{\w+\}|$)", template):
        piece = piece if slot == "{question}" else piece.rstrip(" ") if slot else piece
        if len(re.findall(r"\w+", piece)) > 1 or "\n" in piece or slot == "{question}":
            pieces.append(piece)
    return pieces


def _all_chunks() -> list[str]:
    templates = [
        GLOBAL_CAPTION_QUESTION,
        bbox2caption_question("{box}"),
        caption2bbox_question("{caption}"),
        *SCENE_TEMPLATES.values(),
        *DOCUMENT_TEMPLATES.values(),
        *DESCRIPTIONS,
        *SENTENCES.values(),
        QUESTION_PREFIX + "{question}",
        f"Hint: {MAGNET_HINT}\n{QUESTION_PREFIX}{{question}}",
        SHORT_ANSWER,
        "?" + SHORT_ANSWER,
        "?\nOptions:\nA.",
        MATH_INTEGER,
        MATH_CHOICE,
        "\nOptions:\nA.{option}\nB.{option}\nC.{option}\nD.{option}\n" + CHOICE_SUFFIX,
        "\n(A){option}\n(B){option}\n(C){option}\n(D){option}",
    ]
    return sorted({piece for template in templates for piece in _pieces(template)})


TEMPLATE_CHUNKS: list[str] = _all_chunks()
