"""Questions about pages, charts, tables, receipts and signs: reading by place, looking values up, comparing
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from granvit.miniature.questions.asking import Asked, among, pick, yes_no
from granvit.miniature.questions.templates import DOCUMENT_NOUNS, DOCUMENT_TEMPLATES, LINE_NUMBERS
from granvit.miniature.world.documents import Document, Line
from granvit.miniature.world.words import MAX_VALUE, WORDS

Ask = Callable[[Document, np.random.Generator], Iterator[Asked]]


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


def line_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """What a line says, counted from the top. Offered instead: the other lines and as many other words."""
    texts = [line.text for line in document.lines]
    for number, text in zip(LINE_NUMBERS, texts, strict=False):
        words = random_words(rng, 4, set(" ".join(texts).lower().split()))
        wrong = [other for other in texts if other != text]
        wrong += [" ".join(words[2 * i : 2 * i + len(text.split())]) for i in range(2)]
        yield among("line", _ask("line", thing=number), text, wrong[-3:])


def line_count_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """How many lines a page or a set of signs has."""
    yield among("lines", _ask("lines"), str(len(document.lines)), ["2", "3", "4", "5"])


def transcription_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """All words of the signs on a photograph, from the top."""
    words = [word for line in document.lines for word in line.text.split()]
    wrong = [words[::-1]]
    wrong += [random_words(rng, 1, set(words)) + words[1:], words[:-1] + random_words(rng, 1, set(words))]
    yield among("all", _ask("all"), " ".join(words), map(" ".join, wrong))


def word_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """Whether a word is printed anywhere, asked of two that are there and two that are not."""
    printed = {word for line in document.lines for word in line.text.split()}
    present = sorted(printed & set(WORDS))
    asked = [(present[int(i)], True) for i in rng.permutation(len(present))[:2]]
    asked += [(word, False) for word in random_words(rng, 2, {word.lower() for word in printed})]
    for word, truth in asked:
        yield yes_no("word", _ask("word", thing=word), truth)


def title_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """The title of a chart, a table or a receipt, as printed."""
    title = document.lines[0].text
    wrong = [entry.label for entry in document.entries] + random_words(rng, 3, {title})
    yield among("title", _ask("title"), title, list(dict.fromkeys(wrong))[:4])


def value_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """The value of a bar or a row, the price of an item; the total of a receipt."""
    family = "price" if document.kind == "receipt" else "value"
    numbers = [entry.value for entry in document.entries]
    asked = [(family, entry.value, {"thing": entry.label}) for entry in document.entries]
    if document.kind == "receipt":
        asked.append(("total", document.total, {}))
    for family, value, slots in asked:
        yield among(family, _ask(family, **slots), str(value), other_numbers(rng, value, numbers))


def label_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """Which label has the highest, the lowest or a given value (which item of a receipt, where only one has
    it).
    """
    labels, values = zip(*((entry.label, entry.value) for entry in document.entries), strict=True)
    highest, lowest = ("dearest", "cheapest") if document.kind == "receipt" else ("highest", "lowest")
    for family, value in ((highest, max(values)), (lowest, min(values))):
        if len(values) > 1 and values.count(value) == 1:
            yield among(family, _ask(family), labels[values.index(value)], labels)
    if document.kind != "receipt":
        for label, value in zip(labels, values, strict=True):
            yield among("label of", _ask("label of", thing=str(value)), label, labels)


def comparison_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """Whether one value of a chart or table is higher than another."""
    for a, b in permutations(document.entries, 2):
        yield yes_no("higher", _ask("higher", thing=a.label, other=b.label), a.value > b.value)


def difference_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """The difference between two values of a chart or table."""
    wrong = [str(number) for number in range(1, MAX_VALUE)]
    for a, b in permutations(document.entries, 2):
        if a.value > b.value:
            question = _ask("difference", thing=a.label, other=b.label)
            yield among("difference", question, str(a.value - b.value), wrong)


def kind_questions(document: Document, rng: np.random.Generator) -> Iterator[Asked]:
    """Page, chart, table, receipt or sign."""
    yield among("kind", _ask("kind"), DOCUMENT_NOUNS[document.kind], ["photo", *DOCUMENT_NOUNS.values()])


def random_line(document: Document, rng: np.random.Generator) -> Line | None:
    """A line that a question can locate: with a known box, and no other line of the same text.

    None for charts and tables, whose boxes nobody knows.
    """
    texts = [line.text for line in document.lines]
    lines = [line for line in document.lines if line.box is not None and texts.count(line.text) == 1]
    return pick(rng, lines) if lines else None


def _of(kinds: tuple[str, ...], ask: Ask) -> Ask:
    """The family for documents of ``kinds``; of others it asks nothing."""
    return lambda document, rng: ask(document, rng) if document.kind in kinds else iter(())


_LOCATED, _PLOTTED = ("text", "receipt", "rich"), ("chart", "table")
_ENTERED = (*_PLOTTED, "receipt")
DOCUMENT_FAMILIES: dict[str, Ask] = {
    "line": _of(_LOCATED, line_questions),
    "lines": _of(("text", "rich"), line_count_questions),
    "all": _of(("rich",), transcription_questions),
    "word": word_questions,
    "title": _of(_ENTERED, title_questions),
    "value": _of(_ENTERED, value_questions),
    "label": _of(_ENTERED, label_questions),
    "higher": _of(_PLOTTED, comparison_questions),
    "difference": _of(_PLOTTED, difference_questions),
    "kind": kind_questions,
}
