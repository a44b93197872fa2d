"""Twenty miniature benchmarks as VLMEvalKit TSV files, each asking what its namesake asks.

Images are of the ``benchmark`` namespace, which shares no content with training. Benchmarks that one table
describes are below; those with a structure of their own (pairs, sets, rollings, splits) are in
`special`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from granvit.errors import GranvitError
from granvit.miniature.benchmarks import special
from granvit.miniature.benchmarks.rows import Families, Letters, items, option_cells, write_tsv
from granvit.miniature.questions.templates import LETTERS

Rows = Iterator[dict[str, object]]

_CHOICE_COLUMNS = ("index", "image", "question", "hint", *LETTERS, "answer", "category")
_SHORT_COLUMNS = ("index", "image", "question", "answer", "category")
_ATTRIBUTES = ("colour", "shape", "texture", "size")
_LABELLED = {f"labelled {attribute}": "typesOf" for attribute in _ATTRIBUTES} | {"label": "partsOfA"}

CHOICE_BENCHMARKS: dict[str, tuple[tuple[str, ...], Families, int]] = {
    "BLINK": (
        ("scene",),
        {"scene": {"count": "Counting", "box": "Object_Localization", "relation": "Spatial_Relation"}},
        3,
    ),
    "MMStar": (
        ("scene", "text", "scene", "chart", "diagram", "table"),
        {
            "scene": {
                "kind": "coarse perception", "colour": "fine-grained perception",
                "shape": "fine-grained perception",
                "texture": "fine-grained perception", "count": "instance reasoning",
                "relation": "instance reasoning",
                "same": "logical reasoning",
            },
            "text": {"kind": "coarse perception", "line": "fine-grained perception"},
            "chart": {"kind": "coarse perception", "label": "logical reasoning", "difference": "math"},
            "table": {"kind": "coarse perception", "label": "logical reasoning", "difference": "math"},
            "diagram": {family: "science & technology" for family in _LABELLED},
        },
        3,
    ),
    "SEEDBench_IMG": (
        ("scene", "scene", "scene", "rich"),
        {
            "scene": {
                "kind": "Scene Understanding", "identity": "Instance Identity", "place": "Instance Location",
                "count": "Instances Counting", "relation": "Spatial Relation", "same": "Visual Reasoning",
                **{attribute: "Instance Attributes" for attribute in _ATTRIBUTES},
            },
            "rich": {"kind": "Scene Understanding", "line": "Text Understanding"},
        },
        3,
    ),
    "ScienceQA_TEST": (("scene",), {"scene": {"magnet": "natural science"}}, 3),
    "AI2D_TEST": (("diagram",), {"diagram": _LABELLED}, 3),
}  # fmt: skip

# The last entry says how the gold answer is written down.
SHORT_BENCHMARKS: dict[str, tuple[tuple[str, ...], Families, int, Callable[[str, int], str]]] = {
    "GQA_TestDev_Balanced": (
        ("scene",),
        {
            "scene": {
                **{attribute: "query" for attribute in _ATTRIBUTES}, "place": "query", "exists": "verify",
                "attribute": "verify", "relation": "verify", "same": "verify",
            }
        },
        3,
        lambda answer, row: answer.lower(),
    ),
    "DocVQA_VAL": (
        ("text", "receipt"),
        {"text": {"line": "layout"}, "receipt": {"value": "form", "label": "form", "title": "form"}},
        3,
        lambda answer, row: repr([answer]),
    ),
    "ChartQA_TEST": (
        ("chart",),
        {
            "chart": {
                "label": "test_human", "higher": "test_human", "difference": "test_human",
                "value": "test_augmented", "title": "test_augmented",
            }
        },
        4,
        lambda answer, row: repr([answer]),
    ),
    "InfoVQA_VAL": (
        ("table", "rich"),
        {
            "table": {"value": "table", "label": "table", "title": "table"},
            "rich": {"line": "text", "lines": "text"},
        },
        3,
        lambda answer, row: repr([answer]),
    ),
    "TextVQA_VAL": (
        ("rich",),
        {"rich": {"line": "text", "all": "text"}},
        2,
        lambda answer, row: repr(_ten_people(answer, row)),
    ),
    "OCRBench": (
        ("crop", "crop", "crop", "rich", "chart", "receipt", "text"),
        {
            "crop": {
                "text recognition": "Regular Text Recognition",
                "rich recognition": "Irregular Text Recognition",
                "receipt number": "Digit String Recognition",
            },
            "rich": {"line": "Scene Text-centric VQA", "all": "Scene Text-centric VQA"},
            "chart": {"value": "Doc-oriented VQA", "label": "Doc-oriented VQA"},
            "text": {"line": "Doc-oriented VQA"},
            "receipt": {"value": "Key Information Extraction"},
        },
        2,
        lambda answer, row: repr([answer]),
    ),
    "MMVet": (
        ("scene", "text", "chart", "receipt"),
        {
            "scene": {
                "colour": "rec", "shape": "rec", "count": "rec", "identity": "rec,spat", "place": "rec,spat",
            },
            "text": {"line": "ocr,spat"},
            "chart": {"label": "ocr", "value": "ocr", "difference": "ocr,math"},
            "receipt": {"value": "ocr", "label": "ocr,math"},
        },
        2,
        lambda answer, row: answer,
    ),
}  # fmt: skip


def _ten_people(answer: str, row: int) -> list[str]:
    """Ten answers as TextVQA collects them; one person in ten could not read it."""
    answers = [answer] * 10
    answers[row % 10] = "unanswerable"
    return answers


def _choice_rows(name: str, questions: int) -> Rows:
    kinds, families, per_image = CHOICE_BENCHMARKS[name]
    letters = Letters(name)
    for index, item in enumerate(items(name, kinds, families, questions, per_image)):
        options, letter = letters.arrange(item.asked)
        yield {
            "index": index, "image": item.picture.cell(index), "question": item.asked.question,
            "hint": item.asked.hint or "", **option_cells(options), "answer": letter,
            "category": item.category,
        }  # fmt: skip


def _short_rows(name: str, questions: int) -> Rows:
    kinds, families, per_image, gold = SHORT_BENCHMARKS[name]
    category = "split" if name == "ChartQA_TEST" else "category"
    for index, item in enumerate(items(name, kinds, families, questions, per_image)):
        yield {
            "index": index, "image": item.picture.cell(index), "question": item.asked.question,
            "answer": gold(item.asked.answer, index), category: item.category,
        }  # fmt: skip


def write_benchmarks(out_dir: str | Path, questions: int) -> None:
    """Write the TSV files of all twenty benchmarks (RefCOCO, + and g share one): the same bytes on every run.

    ``questions``: rows of a benchmark; of each split for RefCOCO, of distinct questions for MMBench (each has
    as many rows as options), of the validation split for MMMU. MMVP and HallusionBench round up to whole
    pairs and sets. Raises GranvitError for fewer than 1.
    """
    if questions < 1:
        raise GranvitError(
            f"miniature benchmarks: questions is {questions}; it must be at least 1 (data.questions)"
        )
    out_dir = Path(out_dir)
    for name in CHOICE_BENCHMARKS:
        write_tsv(out_dir / f"{name}.tsv", _CHOICE_COLUMNS, _choice_rows(name, questions))
    for name in SHORT_BENCHMARKS:
        columns = [c if name != "ChartQA_TEST" or c != "category" else "split" for c in _SHORT_COLUMNS]
        write_tsv(out_dir / f"{name}.tsv", columns, _short_rows(name, questions))
    for name, (columns, rows) in special.BENCHMARKS.items():
        write_tsv(out_dir / f"{name}.tsv", columns, rows(questions))
