"""What the miniature benchmarks share: TSV files as VLMEvalKit reads them, and an even choice of questions.

Even means that a model that never looks is at chance: within a category every answer is asked for about as
often as any other, and the letter of the right option goes round.
"""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from granvit.files import replacing
from granvit.miniature.questions.asking import Asked, lettered_options
from granvit.miniature.questions.documents import DOCUMENT_FAMILIES
from granvit.miniature.questions.scenes import SCENE_FAMILIES
from granvit.miniature.questions.templates import LETTERS
from granvit.miniature.questions.variants import (
    Diagram,
    Subject,
    crop_questions,
    diagram_questions,
    make_subject,
    render,
)
from granvit.miniature.world.documents import Document
from granvit.miniature.world.rendering import content_hash, rng_for
from granvit.miniature.world.scenes import Scene

JPEG_QUALITY = 90
NAMESPACE = "benchmark"
_IMAGES_EACH = 100_000  # numbers of the benchmark namespace that one benchmark may use

# kind of image -> family of questions -> category of the benchmark
Families = dict[str, dict[str, str]]


class Picture:
    """One benchmark image, drawn when first wanted; ``row``: index of the row that holds it."""

    def __init__(self, subject: Subject):
        self._subject = subject
        self._text: str | None = None
        self.row: object = None

    def base64(self) -> str:
        if self._text is None:
            buffer = io.BytesIO()
            render(self._subject).save(buffer, "JPEG", quality=JPEG_QUALITY)
            self._text = base64.b64encode(buffer.getvalue()).decode("ascii")
        return self._text

    def cell(self, index: object) -> str:
        """What row ``index`` writes into the image column: the image, or the index of the row that has it."""
        if self.row is None:
            self.row = index
            text = self.base64()
            self._text = None  # written once; many of them would fill the memory
            return text
        return str(self.row)


@dataclass(frozen=True)
class Item:
    """A question of a benchmark with its image and category."""

    picture: Picture
    asked: Asked
    category: str


def first_index(benchmark: str) -> int:
    """Where in the benchmark namespace the images of one benchmark begin, apart from those of the others."""
    return content_hash("images of", benchmark) % 1_000_000 * _IMAGES_EACH


def _ask(subject: Subject, family: str, rng: np.random.Generator) -> list[Asked]:
    """What can be asked about an image in one family of questions; a crop's begin with its kind."""
    if isinstance(subject, Scene):
        return SCENE_FAMILIES[family](subject.objects, rng)
    if isinstance(subject, Document):
        return DOCUMENT_FAMILIES[family](subject, rng)
    if isinstance(subject, Diagram):
        return [asked for asked in diagram_questions(subject, rng) if asked.family == family]
    return [asked for asked in crop_questions(subject, rng) if f"{subject.kind} {asked.family}" == family]


class Evenly:
    """Chooses the question whose category, then family, then answer has been asked for least."""

    def __init__(self):
        self._taken: Counter = Counter()

    def choose(self, offers: Sequence[tuple[str, Asked]]) -> tuple[str, Asked]:
        """One of ``offers`` (category, question); the first of those that are equally rare."""
        chosen = min(offers, key=lambda offer: [self._taken[key] for key in self._keys(*offer)])
        self._taken.update(self._keys(*chosen))
        return chosen

    @staticmethod
    def _keys(category: str, asked: Asked) -> list[tuple[str, ...]]:
        return [(category,), (category, "family", asked.family), (category, "answer", asked.answer)]


def items(
    benchmark: str, kinds: Sequence[str], families: Families, count: int, per_image: int
) -> Iterator[Item]:
    """``count`` questions, ``per_image`` about each image; images take turns in ``kinds``."""
    evenly, start, made, number = Evenly(), first_index(benchmark), 0, 0
    while made < count:
        kind = kinds[number % len(kinds)]
        subject = make_subject(kind, NAMESPACE, start + number)
        picture = Picture(subject)
        rng = rng_for("benchmark questions", benchmark, number)
        offers = [
            (category, asked)
            for family, category in families[kind].items()
            for asked in _ask(subject, family, rng)
        ]
        offers = [offers[int(i)] for i in rng.permutation(len(offers))]
        for _ in range(min(per_image, count - made)):
            if not offers:
                break
            category, asked = evenly.choose(offers)
            offers = [
                offer
                for offer in offers
                if offer[1].question != asked.question or offer[1].hint != asked.hint
            ]
            yield Item(picture, asked, category)
            made += 1
        number += 1


class Letters:
    """Places of the right option: each of ``n`` equally often, in random order in every round of ``n``."""

    def __init__(self, benchmark: str):
        self._benchmark = benchmark
        self._used: Counter = Counter()

    def place(self, options: int) -> int:
        """0 = A; for a question with that many options."""
        turn, position = divmod(self._used[options], options)
        self._used[options] += 1
        return int(rng_for("letters", self._benchmark, options, turn).permutation(options)[position])

    def arrange(self, asked: Asked) -> tuple[list[str], str]:
        """At most four options of a question, and the letter of the right one."""
        rng = rng_for("options", self._benchmark, self._used.total())
        place = self.place(min(len(asked.others) + 1, len(LETTERS)))
        return lettered_options(asked, rng, place)


def option_cells(options: Sequence[str]) -> dict[str, str]:
    """The columns A, B, ... of a row."""
    return dict(zip(LETTERS, options, strict=False))


def write_tsv(path: Path, columns: Sequence[str], rows: Iterator[dict[str, object]]) -> None:
    """Stream rows to a TSV; cells that a row lacks stay empty."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
