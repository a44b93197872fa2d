"""Questions about pages, charts, tables, receipts and signs: reading by place, looking values up, comparing
them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np

from granvit.miniature.questions.asking import Asked, among, pick, yes_no
from granvit.miniature.questions.templates import DOCUMENT_NOUNS, DOCUMENT_TEMPLATES, LINE_NUMBERS
from granvit.miniature.world.documents import Document, Line
from granvit.miniature.world.words import MAX_VALUE, WORDS


def _ask(family: str, **slots: str) -> str:
    return DOCUMENT_TEMPLATES[family].format(**slots)


def random_words(rng: np.random.Generator, count: int, besides: set[str]) -> list[str]:
    """``count`` different words of the vocabulary that are not in ``besides``."""
    left = [word for word in WORDS if word not in besides]
    return [left[int(i)] for i in rng.permutation(len(left))[:count]]


def other_numbers(rng: np.random.Generator, value: int, preferred: list[int]) -> list[str]:
    """Wrong numbers to offer instead of ``value``: those on the same image first, then near ones."""
    near = [n for n in range(max(0, value - 4), value + 5) if n != value and n not in preferred]
    chosen = [n for n in preferred if n != value] + [near[int(i)] for i in rng.permutation(len(near))]
    return [str(number) for number in dict.fromkeys(chosen)][:3]


def line_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """What a line says, counted from the top. Offered instead: the other lines and as many other words."""
    if document.kind not in ("text", "receipt", "rich"):
        return []
    texts, questions = [line.text for line in document.lines], []
    for number, text in zip(LINE_NUMBERS, texts, strict=False):
        words = random_words(rng, 4, set(" ".join(texts).lower().split()))
        wrong = [other for other in texts if other != text]
        wrong += [" ".join(words[2 * i : 2 * i + len(text.split())]) for i in range(2)]
        questions.append(among("line", _ask("line", thing=number), text, wrong[-3:]))
    return questions


def line_count_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """How many lines a page or a set of signs has."""
    if document.kind not in ("text", "rich"):
        return []
    return [among("lines", _ask("lines"), str(len(document.lines)), ["2", "3", "4", "5"])]


def transcription_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """All words of the signs on a photograph, from the top."""
    if document.kind != "rich":
        return []
    text = " ".join(line.text for line in document.lines)
    words = text.split()
    wrong = [" ".join(words[::-1])]
    wrong += [
        " ".join(random_words(rng, 1, set(words)) + words[1:]),
        " ".join(words[:-1] + random_words(rng, 1, set(words))),
    ]
    return [among("all", _ask("all"), text, wrong)]


def word_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """Whether a word is printed anywhere, asked of two that are there and two that are not."""
    present = sorted({word for line in document.lines for word in line.text.split() if word in WORDS})
    printed = {word.lower() for line in document.lines for word in line.text.split()}
    asked = [(present[int(i)], True) for i in rng.permutation(len(present))[:2]]
    asked += [(word, False) for word in random_words(rng, 2, printed)]
    return [yes_no("word", _ask("word", thing=word), truth) for word, truth in asked]


def title_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """The title of a chart, a table or a receipt, as printed."""
    if document.title is None:
        return []
    title = document.lines[0].text
    wrong = [entry.label for entry in document.entries] + random_words(rng, 3, {title})
    return [among("title", _ask("title"), title, list(dict.fromkeys(wrong))[:4])]


def value_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """The value of a bar or a row, the price of an item; the total of a receipt."""
    if not document.entries:
        return []
    receipt = document.kind == "receipt"
    family = "price" if receipt else "value"
    numbers = [entry.value for entry in document.entries]
    questions = [
        among(family, _ask(family, thing=e.label), str(e.value), other_numbers(rng, e.value, numbers))
        for e in document.entries
    ]
    if receipt:
        questions.append(
            among("total", _ask("total"), str(document.total), other_numbers(rng, document.total, numbers))
        )
    return questions


def label_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """Which label has the highest, the lowest or a given value (which item of a receipt, where only one has
    it).
    """
    entries, questions = document.entries, []
    labels, values = [entry.label for entry in entries], [entry.value for entry in entries]
    highest, lowest = ("dearest", "cheapest") if document.kind == "receipt" else ("highest", "lowest")
    for family, extreme in ((highest, max), (lowest, min)):
        if len(values) > 1 and values.count(extreme(values)) == 1:
            questions.append(among(family, _ask(family), labels[values.index(extreme(values))], labels))
    if document.kind != "receipt":
        questions += [
            among("label of", _ask("label of", thing=str(e.value)), e.label, labels) for e in entries
        ]
    return questions


def comparison_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """Whether one value of a chart or table is higher than another."""
    if document.kind not in ("chart", "table"):
        return []
    return [
        yes_no("higher", _ask("higher", thing=a.label, other=b.label), a.value > b.value)
        for a, b in permutations(document.entries, 2)
    ]


def difference_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """The difference between two values of a chart or table."""
    if document.kind not in ("chart", "table"):
        return []
    questions = []
    for a, b in permutations(document.entries, 2):
        if a.value > b.value:
            wrong = [str(n) for n in range(1, MAX_VALUE)]
            question = _ask("difference", thing=a.label, other=b.label)
            questions.append(among("difference", question, str(a.value - b.value), wrong))
    return questions


def kind_questions(document: Document, rng: np.random.Generator) -> list[Asked]:
    """Page, chart, table, receipt or sign."""
    return [among("kind", _ask("kind"), DOCUMENT_NOUNS[document.kind], ["photo", *DOCUMENT_NOUNS.values()])]


def placed_lines(document: Document) -> list[Line]:
    """The lines that a question can locate: with a known box, and no other line of the same text."""
    texts = [line.text for line in document.lines]
    return [line for line in document.lines if line.box is not None and texts.count(line.text) == 1]


def random_line(document: Document, rng: np.random.Generator) -> Line | None:
    """One of `placed_lines`; None for charts and tables, whose boxes nobody knows."""
    lines = placed_lines(document)
    return pick(rng, lines) if lines else None


DOCUMENT_FAMILIES: dict[str, Callable[[Document, np.random.Generator], list[Asked]]] = {
    "line": line_questions,
    "lines": line_count_questions,
    "all": transcription_questions,
    "word": word_questions,
    "title": title_questions,
    "value": value_questions,
    "label": label_questions,
    "higher": comparison_questions,
    "difference": difference_questions,
    "kind": kind_questions,
}
