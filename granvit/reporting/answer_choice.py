"""Which answers to held-out questions a figure shows: by rank, by quantile, or by how they fail. Ties are
broken by a hash of the question, and no image is shown twice by one choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from granvit.boxes import area, iou
from granvit.config.figures import AnsweredBoxes, AnsweredCaptions, Failures
from granvit.errors import GranvitError
from granvit.evaluation.heldout_questions import HeldOutAnswer, read_answers
from granvit.evaluation.heldout_regions import BBOX2CAPTION, CAPTION2BBOX, HeldOutImage
from granvit.evaluation.scoring.texts import rouge_l


@dataclass(frozen=True)
class Compared:
    """One question and each model's answer to it, by the model's label."""

    answers: Mapping[str, HeldOutAnswer]

    @property
    def question(self) -> HeldOutAnswer:
        """The question, as the first model's line has it."""
        return next(iter(self.answers.values()))

    @property
    def last(self) -> HeldOutAnswer:
        """The answer of the model named last."""
        return [*self.answers.values()][-1]

    @property
    def mean_rouge(self) -> float:
        """Mean ROUGE-L (0-1) of a region's captions."""
        return sum(answer.rouge_l for answer in self.answers.values()) / len(self.answers)


def compare(
    files: Mapping[str, str | Path], task: str, data_types: Sequence[str] = ("natural", "ocr")
) -> list[Compared]:
    """The questions of a task on images of ``data_types``, in the files' order. ``files``: label -> answers.

    Raises GranvitError where a file cannot be read, or where two of them answer different questions.
    """
    lines = {
        label: {
            answer.index: answer
            for answer in read_answers(path)
            if answer.task == task and answer.data_type in data_types
        }
        for label, path in files.items()
    }
    first, *others = lines
    for other in others:
        if odd := sorted(lines[first].keys() ^ lines[other].keys()):
            raise GranvitError(
                f"{files[other]}: answers other questions than {files[first]} ({odd[0]} is in one of them "
                "only); make both again"
            )
    return [Compared({label: lines[label][index] for label in lines}) for index in lines[first]]


def choose_ranked(found: Iterable[Compared], settings: AnsweredBoxes) -> list[tuple[str, Compared]]:
    """(best, median or worst, question): those of the highest IoU of the last model, those around the middle
    rank, and those of the lowest."""
    falling = sorted(found, key=lambda one: (-one.last.iou, one.question.hash))
    rising = sorted(found, key=lambda one: (one.last.iou, one.question.hash))
    ranks = range(len(falling))
    middle = [falling[at] for at in sorted(ranks, key=lambda at: (abs(2 * at + 1 - len(falling)), at))]
    wanted = {"best": falling, "median": middle, "worst": rising}
    seen: set[str] = set()
    return [
        (name, one)
        for name, ranked in wanted.items()
        for one in _unseen(ranked, getattr(settings, name), seen)
    ]


def choose_quantiles(found: Iterable[Compared], settings: AnsweredCaptions) -> list[tuple[float, Compared]]:
    """(quantile, question) for each quantile of each kind of image: questions are ranked by the mean ROUGE-L
    of all models, so that none is favoured."""
    seen: set[str] = set()
    chosen = []
    for data_type in settings.data_types:
        kind = [one for one in found if one.question.data_type == data_type]
        ranked = sorted(kind, key=lambda one: (one.mean_rouge, one.question.hash))
        for quantile in settings.quantiles:
            at = quantile * (len(ranked) - 1)
            nearest = sorted(range(len(ranked)), key=lambda rank: (abs(rank - at), rank))
            chosen += [(quantile, one) for one in _unseen((ranked[rank] for rank in nearest), 1, seen)]
    return chosen


def _unseen(ranked: Iterable[Compared], number: int, seen: set[str]) -> Iterator[Compared]:
    """The first ``number`` questions on images that are not ``seen`` yet."""
    for one in ranked:
        if number <= 0:
            return
        if one.question.key not in seen:
            seen.add(one.question.key)
            number -= 1
            yield one


@dataclass(frozen=True)
class Case:
    """An answer about a region, and what may explain its failure.

    ``box_share``: of the image's area; ``regions``: how many the image has; ``overlap``: the largest IoU with
    another region's box, which is that of ``overlapped`` (its place); ``margin``: how much better (ROUGE-L)
    the answer fits the text of region ``fitting`` than its own; without another region, 0 and None.
    """

    answer: HeldOutAnswer
    box_share: float
    regions: int
    overlap: float
    overlapped: int | None
    margin: float
    fitting: int | None

    def measures(self) -> dict[str, float | int | None]:
        """What the sidecar says of it."""
        return {
            "rouge_l": self.answer.rouge_l, "box_share": round(self.box_share, 6), "regions": self.regions,
            "overlap": round(self.overlap, 6), "margin": round(self.margin, 6),
        }  # fmt: skip


def examine(answer: HeldOutAnswer, image: HeldOutImage) -> Case:
    """Measure an answer against all regions of its image."""
    others = [at for at in range(len(image.regions)) if at != answer.region]
    overlaps = {at: iou(answer.gold_box, image.regions[at].box) for at in others}
    fits = {at: rouge_l(answer.answer, [image.regions[at].text]) - answer.rouge_l for at in others}
    overlapped = max(others, key=overlaps.__getitem__, default=None)
    fitting = max(others, key=fits.__getitem__, default=None)
    return Case(
        answer, area(answer.gold_box) / (image.width * image.height), len(image.regions),
        overlaps.get(overlapped, 0.0), overlapped, max(0.0, fits.get(fitting, 0.0)), fitting,
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One row of Figure 13: its ``title``, how many failures are of this kind, those shown, and the
    ``nearest`` measure in words."""

    title: str
    number: int
    shown: list[Case]
    nearest: str


def choose_failures(cases: Sequence[Case], settings: Failures) -> list[Kind]:
    """The three kinds of Fig. 13, each from its most extreme failure on; an image is shown once.

    A failure's ROUGE-L is below ``failed_below``; confused answers are those that fit another region better.
    """
    failed = [case for case in cases if case.answer.rouge_l < settings.failed_below]
    dense = [
        case
        for case in failed
        if case.box_share <= settings.max_box_share
        or (case.answer.data_type == "ocr" and case.regions >= settings.min_lines)
    ]
    overlapping = [case for case in failed if case.overlap >= settings.min_overlap]
    confused = [case for case in cases if case.margin >= settings.min_margin]
    smallest = min((case.box_share for case in failed), default=1.0)
    largest = max((case.overlap for case in failed), default=0.0)
    widest = max((case.margin for case in cases), default=0.0)
    seen: set[str] = set()

    def kind(title: str, found: list[Case], measure: Callable[[Case], float], nearest: str) -> Kind:
        ranked = sorted(found, key=lambda case: (measure(case), case.answer.hash))
        shown = []
        for case in ranked:
            if len(shown) < settings.cases and case.answer.key not in seen:
                seen.add(case.answer.key)
                shown.append(case)
        return Kind(title, len(found), shown, nearest)

    return [
        kind("Small box or dense text", dense, lambda case: case.box_share,
             f"the smallest box of a failure covers {smallest:.2%} of its image"),
        kind("Overlap", overlapping, lambda case: -case.overlap,
             f"the largest overlap of a failure's box is an IoU of {largest:.2f}"),
        kind("Confusion with a neighbour", confused, lambda case: -case.margin,
             f"no answer fits another region by more than {widest:.2f} of ROUGE-L better"),
    ]  # fmt: skip


def boxes_compared(files: Mapping[str, str | Path], settings: AnsweredBoxes) -> list[Compared]:
    """All questions that Figs. 4b, 11 and 12 choose from."""
    return compare(files, CAPTION2BBOX, settings.data_types)


def captions_compared(
    files: Mapping[str, str | Path], data_types: Sequence[str] = ("natural", "ocr")
) -> list[Compared]:
    """All questions that Figs. 10 and 13 choose from."""
    return compare(files, BBOX2CAPTION, data_types)
