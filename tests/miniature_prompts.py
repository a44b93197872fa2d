"""Prompts of the miniature's instruction data, and the words that they may be made of."""

from __future__ import annotations

import re
from functools import cache

from granvit.miniature.questions import pairs as questions
from granvit.miniature.questions import templates
from granvit.miniature.questions.variants import make_subject
from granvit.miniature.world import words
from granvit.miniature.world.documents import make_document
from granvit.miniature.world.scenes import make_scene


def scenes(count: int = 80) -> list:
    return [make_scene("instruct", index) for index in range(count)]


def documents(count: int = 20) -> list:
    return [make_document("instruct", index, kind) for index in range(count) for kind in words.DOCUMENT_KINDS]


@cache
def all_pairs() -> list[tuple[str, str]]:
    labelled = [make_subject(kind, "instruct", index) for index in range(20) for kind in ("diagram", "crop")]
    images = [*scenes(), *documents(), *labelled]
    return [pair for image in images for pair in questions.instruction_qa(image, 0)]


def vocabulary() -> set[str]:
    """Every word that may stand in a slot of a question."""
    places = {word for place in words.PLACES for word in place.split()}
    shapes = {shape + ending for shape in words.SHAPES for ending in ("", "s", "es")}
    named = {
        *words.COLOURS,
        *words.TEXTURES,
        *words.SIZES,
        *words.WORDS,
        *(word.upper() for word in words.WORDS),
    }
    grammar = {
        "a",
        "and",
        "at",
        "the",
        "to",
        "of",
        "above",
        "below",
        "label",
        "with",
        "object",
        "objects",
        "total",
        "say",
    }
    kinds = {
        "photo",
        *templates.DOCUMENT_NOUNS.values(),
        "colour",
        "shape",
        "texture",
        "size",
        "Yes",
        "No",
        "Is",
    }
    return places | shapes | named | grammar | kinds | {"first", "second", "image"}


def leftover_words(prompt: str) -> set[str]:
    """The words of a prompt that are in no constant chunk (longest first) and not in the vocabulary."""
    pattern = "|".join(re.escape(chunk) for chunk in sorted(templates.TEMPLATE_CHUNKS, key=len, reverse=True))
    return set(re.findall(r"[A-Za-z]+", re.sub(pattern, " ", prompt))) - vocabulary() - set("ABCD")
