"""What the miniature benchmarks share: TSV files as VLMEvalKit reads them, and an even choice of questions.

Even means that a model that never looks is at chance: within a category every answer is asked for about as
often as any other, and the letter of the right option goes round.
"""

from __future__ import annotations

import base64
import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

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
_IMAGES_EACH = 100_000  # numbers of a split that one benchmark may use

# kind of image -> category of the benchmark -> families of questions, separated by commas
Families = dict[str, dict[str, str]]
Rows = Iterator[dict[str, object]]


class Draw(NamedTuple):
    """Which images the benchmarks show: of a split (`rendering.fits_split`), each benchmark's from its image
    ``first`` on."""

    split: str = "benchmark"
    first: int = 0

    def start(self, benchmark: str) -> int:
        """Where in the split the images of one benchmark begin, apart from those of the others."""
        return content_hash("images of", benchmark) % 1_000_000 * _IMAGES_EACH + self.first


TEST = Draw()


def _ask(subject: Subject, family: str, rng: np.random.Generator) -> list[Asked]:
    """What can be asked about an image in one family of questions; a crop's begin with its kind."""
    if isinstance(subject, Scene):
        return list(SCENE_FAMILIES[family](subject.objects, rng))
    if isinstance(subject, Document):
        return list(DOCUMENT_FAMILIES[family](subject, rng))
    if isinstance(subject, Diagram):
        return [asked for asked in diagram_questions(subject, rng) if asked.family == family]
    kind = subject.document.kind
    return [asked for asked in crop_questions(subject, rng) if f"{kind} {asked.family}" == family]


def _counted(category: str, asked: Asked) -> list[tuple[str, ...]]:
    """What an even choice keeps count of."""
    return [(category,), (category, "family", asked.family), (category, "answer", asked.answer)]


def items(
    benchmark: str,
    families: Families,
    count: int,
    draw: Draw,
    per_image: int,
    kinds: Sequence[str] = (),
) -> Iterator[tuple[Subject, Asked, str]]:
    """``count`` questions with image and category, ``per_image`` about each image.

    Images take turns in ``kinds``, or in all that ``families`` names. Asked is the question whose category,
    then family, then answer has been asked for least.
    """
    kinds, start, made, taken = kinds or tuple(families), draw.start(benchmark), 0, Counter()
    for number in itertools.count():
        kind = kinds[number % len(kinds)]
        subject = make_subject(kind, draw.split, start + number)
        rng = rng_for("benchmark questions", benchmark, number)
        offers = [
            (category, asked)
            for category, names in families[kind].items()
            for family in names.split(", ")
            for asked in _ask(subject, family, rng)
        ]
        offers = [offers[int(i)] for i in rng.permutation(len(offers))]
        for _ in range(per_image):
            if made == count:
                return
            if not offers:
                break
            chosen = min(offers, key=lambda offer: [taken[key] for key in _counted(*offer)])
            taken.update(_counted(*chosen))
            category, asked = chosen
            offers = [o for o in offers if (o[1].question, o[1].hint) != (asked.question, asked.hint)]
            yield subject, asked, category
            made += 1


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
    """The columns A to D of a row; those without an option stay empty."""
    return dict(zip_longest(LETTERS, options, fillvalue=""))


@lru_cache(maxsize=1)
def image_cell(subject: Subject) -> str:
    """An image as the files hold it; the last one is kept, for the rows that follow with it."""
    buffer = io.BytesIO()
    render(subject).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def write_tsv(path: Path, rows: Rows) -> None:
    """Stream rows to a TSV with the columns of the first; cells that a later row lacks stay empty.

    Where ``image`` is a subject, the first row about it gets the image and each other the index of that row.
    """
    first, held = next(rows), {}
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first), restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for row in chain([first], rows):
            if isinstance(row["image"], Subject):
                key = row["image"].key
                row["image"] = held.get(key) or image_cell(row["image"])
                held.setdefault(key, str(row["index"]))
            writer.writerow(row)
