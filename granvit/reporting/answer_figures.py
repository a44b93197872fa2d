"""Figures 4b and 10 to 13: questions on regions of held-out images, and what models answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.offsetbox import DrawingArea, HPacker, OffsetBox
from matplotlib.patheffects import withStroke

from granvit.boxes import clip_box
from granvit.config.figures import AnsweredBoxes, AnsweredCaptions, Failures
from granvit.data.records.prompts import bbox2caption_question
from granvit.data.records.records import readable_key
from granvit.errors import GranvitError
from granvit.evaluation.heldout_questions import HeldOutAnswer
from granvit.evaluation.heldout_regions import HeldOutImage, heldout_images
from granvit.reporting.answer_choice import (
    Case,
    Compared,
    boxes_compared,
    captions_compared,
    choose_failures,
    choose_quantiles,
    choose_ranked,
    examine,
)
from granvit.reporting.drawing import GREY, INDENT, column, grid, paragraph, tagged
from granvit.reporting.pictures import Picture

TRUTH, PREDICTED, OTHER = "#d11507", "#0a8f3c", "#1f5fa8"
_PAIR, _CELL, _HEIGHT = 240.0, 156.0, 156.0  # points
_GAP, _SMALL = 6.0, 5.5
_COINCIDE = 0.7  # IoU
_CUT_OUT = 14.0  # points: lower boxes are shown a second time, larger
_NAMES = {"natural": "natural images", "ocr": "pages"}

_ASKED = f"Asked: {bbox2caption_question('[x1, y1, x2, y2]')}"

Facts = dict[str, Any]


def boxes_page(
    title: str, settings: AnsweredBoxes, files: Sequence[str | Path], mixture: str | Path, scale: str
) -> tuple[Figure, Facts]:
    """Figs. 4b, 11 and 12: a question for a region's box a cell, a picture a run, and what the sidecar says.

    ``files``: answers of ``settings.runs``, in their order. Raises GranvitError for a file that cannot be
    read.
    """
    found = boxes_compared(dict(zip(settings.runs, files, strict=True)), settings)
    chosen = choose_ranked(found, settings)
    images = _images_of([one.question for _, one in chosen], mixture)
    cells = [_boxes_cell(name, one, images[one.question.key]) for name, one in chosen]
    last = [*settings.runs][-1]
    notes = [f"Red: truth; green: predicted. By the IoU {last}: the best, the median and the worst."]
    accuracy = {}
    if found:
        accuracy = {
            run: sum(one.answers[run].iou >= 0.5 for one in found) / len(found) for run in settings.runs
        }
        kinds = " and ".join(_NAMES[kind] for kind in settings.data_types)
        shares = ", ".join(f"{share:.1%} {run}" for run, share in accuracy.items())
        notes.append(f"All {len(found):,} questions on held-out {kinds}, ACC@IoU0.5: {shares}.")
    facts = {
        "questions": len(found), "acc_iou50": accuracy,
        "shown": [
            {"chosen": name, "question": one.question.index}
            | {run: {"answer": a.answer, "box": a.box, "iou": a.iou} for run, a in one.answers.items()}
            for name, one in chosen
        ],
    }  # fmt: skip
    return _page(title, scale, notes, cells, settings.columns, _PAIR), _with_keys(facts)


def captions_page(
    title: str, settings: AnsweredCaptions, files: Sequence[str | Path], mixture: str | Path, scale: str
) -> tuple[Figure, Facts]:
    """Fig. 10: a region a cell, and what each model says of it, as ``boxes_page`` says of the rest."""
    found = captions_compared(dict(zip(settings.runs, files, strict=True)), settings.data_types)
    chosen = choose_quantiles(found, settings)
    images = _images_of([one.question for _, one in chosen], mixture)
    cells = [_captions_cell(quantile, one, images[one.question.key]) for quantile, one in chosen]
    notes = [
        _ASKED,
        "Red: the region asked about. Quantiles are of the mean ROUGE-L over the models (1: the best).",
    ]
    means: dict[str, dict[str, float]] = {}
    for kind in settings.data_types:
        some = [one for one in found if one.question.data_type == kind]
        if some:
            means[kind] = {
                run: sum(one.answers[run].rouge_l for one in some) / len(some) for run in settings.runs
            }
            values = ", ".join(f"{run} {mean:.2f}" for run, mean in means[kind].items())
            notes.append(f"Mean ROUGE-L over {len(some):,} held-out regions of {_NAMES[kind]}: {values}.")
    facts = {
        "questions": len(found), "mean_rouge_l": means,
        "shown": [
            {"chosen": quantile, "question": one.question.index}
            | {run: {"answer": a.answer, "rouge_l": a.rouge_l} for run, a in one.answers.items()}
            for quantile, one in chosen
        ],
    }  # fmt: skip
    return _page(title, scale, notes, cells, len(settings.quantiles), _CELL), _with_keys(facts)


def failures_page(
    title: str, settings: Failures, files: Sequence[str | Path], mixture: str | Path, scale: str
) -> tuple[Figure, Facts]:
    """Fig. 13: a row for each kind of failure, as ``boxes_page`` says of the rest."""
    compared = captions_compared(dict(zip(settings.runs, files, strict=True)))
    images = _images_of([one.last for one in compared], mixture)
    cases = [examine(one.last, images[one.last.key]) for one in compared]
    (run,) = settings.runs
    cells: list[OffsetBox] = []
    shown = []
    for letter, kind in zip("abc", choose_failures(cases, settings), strict=True):
        head = f"({letter}) {kind.title}"
        row = [_failure_cell(head, letter, run, case, images[case.answer.key]) for case in kind.shown]
        if not row:
            note = f"None among {len(cases):,} answers at this scale: {kind.nearest}."
            row = [column([_bold(head, _CELL), paragraph(note, _CELL, 4, colour=GREY)])]
        cells += [*row, *(DrawingArea(_CELL, 0) for _ in range(settings.cases - len(row)))]
        shown.append(
            {
                "kind": kind.title, "failures": kind.number, "nearest": kind.nearest,
                "shown": [
                    {"question": case.answer.index, "answer": case.answer.answer} | case.measures()
                    for case in kind.shown
                ],
            }
        )  # fmt: skip
    counts = "; ".join(f"({letter}) {kind['failures']:,}" for letter, kind in zip("abc", shown, strict=True))
    notes = [
        _ASKED,
        f"Red: the region asked about; blue, dashed: another region. Of {len(cases):,} answers, failures of "
        f"each kind: {counts}. The most extreme of each are shown.",
        f"A failure of (a) and (b) has a ROUGE-L below {settings.failed_below:g}; an answer of (c) fits "
        f"another region better, by {settings.min_margin:g} of ROUGE-L or more.",
    ]
    facts = {"questions": len(cases), "kinds": shown}
    facts["keys"] = [case["question"] for kind in shown for case in kind["shown"]]
    return _page(title, scale, notes, cells, settings.cases, _CELL), facts


def _with_keys(facts: Facts) -> Facts:
    return facts | {"keys": [one["question"] for one in facts["shown"]]}


def _page(
    title: str, scale: str, notes: Sequence[str], cells: Sequence[OffsetBox], columns: int, cell: float
) -> Figure:
    width = columns * cell + (columns - 1) * 18
    if not cells:
        notes = [*notes, "This scale has no such held-out question."]
    head = [paragraph(f"{title} ({scale} scale)", width, 3, size=11, weight="bold")]
    head += [paragraph(note, width, 5, colour=GREY) for note in notes]
    return grid(head, cells, columns, cell, 14)


def _images_of(questions: Sequence[HeldOutAnswer], mixture: str | Path) -> dict[str, HeldOutImage]:
    """The images of questions, by key. Raises GranvitError where the mixture lacks one."""
    keys = {question.key for question in questions}
    images = {image.key: image for image in heldout_images(mixture, keys)} if keys else {}
    if missing := sorted(keys - images.keys()):
        raise GranvitError(
            f"{mixture}: no image {missing[0]!r}, which answers are about; the answers are of another "
            "mixture: make them again"
        )
    return images


def _frame(
    picture: Picture,
    box: Sequence[float],
    colour: str,
    width: float = 1.2,
    line: str = "-",
    halo: float = 0.8,
) -> None:
    around = [withStroke(linewidth=width + halo, foreground="white")] if halo else []
    picture.frame(box, edgecolor=colour, linewidth=width, linestyle=line, path_effects=around)


def _bold(text: str, width: float, lines: int = 1) -> OffsetBox:
    return paragraph(text, width, lines, size=8, weight="bold")


def _key(question: HeldOutAnswer, width: float) -> OffsetBox:
    return paragraph(readable_key(question.index), width, 2, size=_SMALL, colour=GREY)


def _boxes_cell(name: str, one: Compared, image: HeldOutImage) -> OffsetBox:
    question = one.question
    panel = (_PAIR - _GAP * (len(one.answers) - 1)) / len(one.answers)
    opened = image.open()
    panels = []
    for run, answer in one.answers.items():
        picture = Picture(opened, panel, _HEIGHT)
        # The truth is wider, and a prediction that lies on it has no halo, so that both are seen
        _frame(picture, question.gold_box, TRUTH, 2.8)
        if answer.box:
            _frame(picture, answer.box, PREDICTED, 1.0, halo=0.8 if answer.iou < _COINCIDE else 0)
        said = f"IoU {answer.iou:.2f}" if answer.box else "no box in the answer"
        words = paragraph(answer.answer or "(nothing)", panel, 2, colour=GREY)
        panels.append(
            column([paragraph(run, panel), picture, paragraph(said, panel, weight="bold"), words], 2, panel)
        )
    asked = tagged("Q", GREY, paragraph(question.question, _PAIR - INDENT, 4))
    pictures = HPacker(children=panels, align="top", sep=_GAP)
    return column([_bold(name.capitalize(), _PAIR), asked, pictures, _key(question, _PAIR)], 3)


def _region(image: HeldOutImage, box: Sequence[float], others: Sequence[Sequence[float]] = ()) -> OffsetBox:
    """The image with a region's box in red; below it, where that is small, what is inside."""
    opened = image.open()
    picture = Picture(opened, _CELL, _HEIGHT)
    for other in others:
        _frame(picture, other, OTHER, 1.0, "--")
    _frame(picture, box, TRUTH)
    if picture.place(box).height > _CUT_OUT:
        return picture
    x1, y1, x2, y2 = clip_box(box, opened.width, opened.height)
    left, top = min(int(x1), opened.width - 1), min(int(y1), opened.height - 1)
    window = (left, top, max(left + 1, math.ceil(x2)), max(top + 1, math.ceil(y2)))
    return column([picture, Picture(opened, _CELL, 2 * _CUT_OUT, window)], 3)


def _said(tag: str, colour: str, text: str, score: float | None = None) -> OffsetBox:
    words = [paragraph(text or "(nothing)", _CELL - INDENT, 3)]
    if score is not None:
        words.append(paragraph(f"ROUGE-L {score:.2f}", _CELL - INDENT, weight="bold"))
    return column([paragraph(tag, _CELL, weight="bold", colour=colour), column(words)])


def _captions_cell(quantile: float, one: Compared, image: HeldOutImage) -> OffsetBox:
    question = one.question
    said = [_said(run, GREY, answer.answer, answer.rouge_l) for run, answer in one.answers.items()]
    return column(
        [
            _bold(f"Quantile {quantile:g}", _CELL),
            _region(image, question.gold_box),
            _said("Truth", TRUTH, question.gold_text),
            *said,
            _key(question, _CELL),
        ],
        3,
    )


def _failure_cell(head: str, letter: str, run: str, case: Case, image: HeldOutImage) -> OffsetBox:
    answer = case.answer
    other = {"a": None, "b": case.overlapped, "c": case.fitting}[letter]
    near = [] if other is None else [image.regions[other]]
    measure = {
        "a": f"The box covers {case.box_share:.2%} of the image, which has {case.regions} regions.",
        "b": f"IoU {case.overlap:.2f} with the blue box.",
        "c": f"ROUGE-L {case.margin + (answer.rouge_l or 0):.2f} with the blue box's text.",
    }[letter]
    return column(
        [
            _bold(head, _CELL, 2),
            _region(image, answer.gold_box, [region.box for region in near]),
            _said("Truth", TRUTH, answer.gold_text),
            *(_said("Blue box", OTHER, region.text) for region in near),
            _said(run, GREY, answer.answer, answer.rouge_l),
            paragraph(measure, _CELL, 3),
            _key(answer, _CELL),
        ],
        3,
    )


def page_of(figure: str, settings: Mapping[str, Any], *rest: Any) -> tuple[Figure, Facts]:
    """The page of a figure by its name, from its settings as plain values."""
    number = figure.removeprefix("figure")
    if number == "10":
        return captions_page(f"Figure {number}. Described regions", AnsweredCaptions(**settings), *rest)
    if number == "13":
        return failures_page(f"Figure {number}. Regions described wrongly", Failures(**settings), *rest)
    return boxes_page(f"Figure {number}. Predicted boxes", AnsweredBoxes(**settings), *rest)
