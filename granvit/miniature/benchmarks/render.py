"""Twenty miniature benchmarks as VLMEvalKit TSV files, each asking what its namesake asks.

Images are of the split ``benchmark``, or of ``dev`` for tuning (`rows.Draw`): neither shares a content with
training. Benchmarks that one table describes are below; those with a structure of their own (pairs, sets,
rollings, splits) are in `special`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from granvit.errors import GranvitError
from granvit.miniature.benchmarks import special
from granvit.miniature.benchmarks.rows import (
    TEST,
    Draw,
    Families,
    Letters,
    Rows,
    items,
    option_cells,
    write_tsv,
)

_ATTRIBUTES = "colour, shape, texture, size"
_LABELLED = "labelled colour, labelled shape, labelled texture, labelled size"
_LOOKED_UP = {"coarse perception": "kind", "logical reasoning": "label", "math": "difference"}

# What is asked, how many questions an image, and the turns of the kinds of images where they are not even.
_Table = dict[str, tuple[Families, int] | tuple[Families, int, tuple[str, ...]]]
CHOICE_BENCHMARKS: _Table = {
    "BLINK": (
        {"scene": {"Counting": "count", "Object_Localization": "box", "Spatial_Relation": "relation"}},
        3,
    ),
    "MMStar": (
        {
            "scene": {
                "coarse perception": "kind",
                "fine-grained perception": "colour, shape, texture",
                "instance reasoning": "count, relation",
                "logical reasoning": "same",
            },
            "text": {"coarse perception": "kind", "fine-grained perception": "line"},
            "chart": _LOOKED_UP,
            "table": _LOOKED_UP,
            "diagram": {"science & technology": f"{_LABELLED}, label"},
        },
        3,
        ("scene", "text", "scene", "chart", "diagram", "table"),
    ),
    "SEEDBench_IMG": (
        {
            "scene": {
                "Scene Understanding": "kind",
                "Instance Identity": "identity",
                "Instance Location": "place",
                "Instances Counting": "count",
                "Spatial Relation": "relation",
                "Visual Reasoning": "same",
                "Instance Attributes": _ATTRIBUTES,
            },
            "rich": {"Scene Understanding": "kind", "Text Understanding": "line"},
        },
        3,
        ("scene", "scene", "scene", "rich"),
    ),
    "ScienceQA_TEST": ({"scene": {"natural science": "magnet"}}, 3),
    "AI2D_TEST": ({"diagram": {"typesOf": _LABELLED, "partsOfA": "label"}}, 3),
}
SHORT_BENCHMARKS: _Table = {
    "GQA_TestDev_Balanced": (
        {"scene": {"query": f"{_ATTRIBUTES}, place", "verify": "exists, attribute, relation, same"}},
        3,
    ),
    "DocVQA_VAL": ({"text": {"layout": "line"}, "receipt": {"form": "value, label, title"}}, 3),
    "ChartQA_TEST": (
        {"chart": {"test_human": "label, higher, difference", "test_augmented": "value, title"}},
        4,
    ),
    "InfoVQA_VAL": ({"table": {"table": "value, label, title"}, "rich": {"text": "line, lines"}}, 3),
    "TextVQA_VAL": ({"rich": {"text": "line, all"}}, 2),
    "OCRBench": (
        {
            "crop": {
                "Regular Text Recognition": "text recognition",
                "Irregular Text Recognition": "rich recognition",
                "Digit String Recognition": "receipt number",
            },
            "rich": {"Scene Text-centric VQA": "line, all"},
            "chart": {"Doc-oriented VQA": "value, label"},
            "text": {"Doc-oriented VQA": "line"},
            "receipt": {"Key Information Extraction": "value"},
        },
        2,
        ("crop", "crop", "crop", "rich", "chart", "receipt", "text"),
    ),
    "MMVet": (
        {
            "scene": {"rec": "colour, shape, count", "rec,spat": "identity, place"},
            "text": {"ocr,spat": "line"},
            "chart": {"ocr": "label, value", "ocr,math": "difference"},
            "receipt": {"ocr": "value", "ocr,math": "label"},
        },
        2,
    ),
}


def _gold(name: str, answer: str, row: int) -> str:
    """How a benchmark writes the right answer down: most list what they accept."""
    match name:
        case "GQA_TestDev_Balanced":
            return answer.lower()
        case "MMVet":
            return answer
        case "TextVQA_VAL":  # ten people's answers; one in ten could not read it
            return repr(["unanswerable" if person == row % 10 else answer for person in range(10)])
    return repr([answer])


def _choice_rows(name: str, questions: int, draw: Draw) -> Rows:
    families, per_image, *kinds = CHOICE_BENCHMARKS[name]
    letters = Letters(name)
    stream = items(name, families, questions, draw, per_image, *kinds)
    for index, (image, asked, category) in enumerate(stream):
        options, letter = letters.arrange(asked)
        yield {
            "index": index, "image": image, "question": asked.question, "hint": asked.hint or "",
            **option_cells(options), "answer": letter, "category": category,
        }  # fmt: skip


def _short_rows(name: str, questions: int, draw: Draw) -> Rows:
    families, per_image, *kinds = SHORT_BENCHMARKS[name]
    column = "split" if name == "ChartQA_TEST" else "category"
    stream = items(name, families, questions, draw, per_image, *kinds)
    for index, (image, asked, category) in enumerate(stream):
        yield {
            "index": index, "image": image, "question": asked.question,
            "answer": _gold(name, asked.answer, index), column: category,
        }  # fmt: skip


def write_benchmarks(out_dir: str | Path, questions: Mapping[str, int], draw: Draw = TEST) -> None:
    """Write the TSV files of all twenty benchmarks (RefCOCO, + and g share one): the same bytes on every run.

    ``questions``: rows of a benchmark, by its file name or ``each`` for those that are not named; of each
    split for RefCOCO, of distinct questions for MMBench (each has as many rows as options), of the validation
    split for MMMU. MMVP and HallusionBench round up to whole pairs and sets. ``draw``: which images. Raises
    GranvitError for an unknown name, without ``each``, and for fewer than 1.
    """
    makers: dict[str, Callable[[int, Draw], Rows]] = {
        **{name: partial(_choice_rows, name) for name in CHOICE_BENCHMARKS},
        **{name: partial(_short_rows, name) for name in SHORT_BENCHMARKS},
        **special.BENCHMARKS,
    }
    for name, count in {"each": 0, **questions}.items():
        if name != "each" and name not in makers:
            raise GranvitError(
                f"data.rendered_questions: {name!r} is no benchmark; known: each, {', '.join(makers)}"
            )
        if count < 1:
            raise GranvitError(f"data.rendered_questions: {name} is {count}; it must be at least 1")
    for name, rows in makers.items():
        write_tsv(Path(out_dir) / f"{name}.tsv", rows(questions.get(name, questions["each"]), draw))
