"""What detector, captioner and OCR got right, where the truth of the images is known (docs/data.md).

Boxes are matched one to one at an IoU of 0.5 or more, so that the overlaps sum to the most. A second, loose
matching at 0.1 tells a box that is merely too wide from one that is not there: how much too wide can be
measured on its pairs only, since the widest fail at 0.5.

Every measure is a ratio of sums over images, which are what its interval draws again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from granvit.boxes import iou
from granvit.config.data import FilterRules
from granvit.data.records.filters import let_in, what_passes
from granvit.data.records.records import Record, Region
from granvit.data.sources.truth import TrueRegion, Truth, TruthOf
from granvit.errors import GranvitError
from granvit.evaluation.scoring.texts import levenshtein, rouge_l
from granvit.evaluation.uncertainty import ratio_intervals
from granvit.files import write_csv
from granvit.progress import say

MIN_IOU, LOOSE_IOU = 0.5, 0.1
COLUMNS = [
    "source", "truth", "made_by", "part", "unit", "measure", "value", "low", "high", "count", "images",
]  # fmt: skip
NO_TRUTH, NOTHING_ANNOTATED = "no truth", "nothing annotated"
# A line of words counts as found by one box, or also by a box a word
WHOLE, PIECES = "whole", "pieces"
_SIDES = ("left", "top", "right", "bottom")
_OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0])
_DECIMALS = 4

# What one image adds: (part, unit, measure) -> numerator, denominator
Sums = dict[tuple[str, str, str], tuple[float, float]]


@dataclass(frozen=True)
class Audited:
    """One source. ``made_by``: where its ``boxes``, ``texts`` and ``captions`` come from; ``truth``: where
    the truth does; ``records``: as annotated, before the filters; ``truth_of``: None where nothing is known;
    ``filters``: of a source that a model annotates, since it does not look at images that they drop."""

    name: str
    made_by: dict[str, str]
    truth: str = NO_TRUTH
    records: Iterable[Record] = field(default=())
    truth_of: TruthOf | None = None
    filters: FilterRules | None = None


@dataclass(frozen=True)
class Measured:
    """One measure of a source, with its 95 % interval; ``count`` is what it is a share or mean of."""

    part: str
    unit: str
    measure: str
    value: float
    low: float
    high: float
    count: float


def make_annotation_audit(
    sources: Iterable[Audited], out_csv: str | Path, log: str | Path | None = None
) -> None:
    """Write the audit of all sources (COLUMNS); one whose truth is not known has a row that says so.

    Raises GranvitError for a source none of whose images is among those that its truth tells of.
    """
    rows: list[list[object]] = []
    for source in sources:
        if source.truth_of is None:
            rows.append([source.name, source.truth, *[""] * (len(COLUMNS) - 2)])
            continue
        measured, images = audit(source)
        say(log, f"{source.name} | {_in_words(measured)} | {images} images")
        for one in measured:
            numbers = (round(number, _DECIMALS) for number in (one.value, one.low, one.high))
            made_by = source.made_by[one.part]
            rows.append([source.name, source.truth, made_by, one.part, one.unit, one.measure, *numbers,
                         round(one.count), images])  # fmt: skip
    write_csv(out_csv, COLUMNS, rows)


def audit(source: Audited) -> tuple[list[Measured], int]:
    """The measures of one source, and over how many images. Raises GranvitError where no image has a
    truth."""
    found: dict[str, Sums] = {}
    example, told_of, in_words = "", 0, False
    for record in source.records:
        example = example or record.provenance.get("file", record.key)
        truth = source.truth_of(record)
        told_of += truth is not None
        if truth and (source.filters is None or let_in(record, source.filters)):
            described = source.filters is None or what_passes(record, source.filters) is not None
            found[record.key] = image_sums(record, truth if described else replace(truth, caption=None))
            in_words |= any(len(region.parts) > 1 for region in truth.regions)
    if not found:
        seen = f"such as {example!r}" if example else "of which there are none"
        cause = (
            f"{told_of} of its images, all of which the filters drop"
            if told_of
            else f"none of its images, {seen}"
        )
        raise GranvitError(
            f"source {source.name!r}: its truth ({source.truth}) tells of {cause}; correct the names there, "
            "or the row's `truth` (docs/data.md)"
        )
    found = dict(sorted(found.items()))  # sums of floats depend on their order
    names = list(dict.fromkeys(name for sums in found.values() for name in sums))
    parts = np.array([[sums.get(name, (0.0, 0.0)) for name in names] for sums in found.values()])
    above, below = parts[..., 0], parts[..., 1]
    intervals = ratio_intervals(list(found), above, below)
    measured = [
        Measured(*name, a / b, *interval, b)
        for name, a, b, interval in zip(names, above.sum(0), below.sum(0), intervals, strict=True)
        if b > 0
    ]
    has_regions = any(one.measure == "recall" for one in measured)
    measured = [
        one for one in measured if (has_regions or one.part == "captions") and (in_words or one.unit == WHOLE)
    ]
    return sorted(measured, key=_order), len(found)


def image_sums(record: Record, truth: Truth) -> Sums:
    """What one image adds to each measure.

    ``boxes``: precision, recall, f1, and mean_iou of matched pairs; located, the share of true boxes in a
    loose pair, and by how many pixels the found box of loose pairs reaches beyond the true one (``excess``, a
    mean of its four sides, and each side). ``texts``, white space collapsed: of matched pairs exact, cer
    (edits a true character) and, but for OCR's, rouge_l; end_to_end, the share of all true texts that are
    found and exact; read, the same of loose pairs. ``captions``: exact and rouge_l. Regions that the filters
    drop, and were therefore never described (text None), are no part of the texts.
    """
    sums = {(part, WHOLE, name): two for part, name, two in _region_sums(record, truth.regions)}
    split = list(_best_reading(truth.regions, record.regions))
    of_pieces = _region_sums(record, split) if split != list(truth.regions) else None
    if of_pieces is None:
        sums |= {(part, PIECES, name): two for (part, _, name), two in sums.items()}
    else:
        sums |= {(part, PIECES, name): two for part, name, two in of_pieces}
    if truth.caption:
        said, true_caption = _plain(record.caption or ""), _plain(truth.caption)
        sums["captions", WHOLE, "exact"] = (float(said == true_caption), 1.0)
        sums["captions", WHOLE, "rouge_l"] = (_rouge(said, true_caption), 1.0)
    return sums


def _region_sums(record: Record, true: Sequence[TrueRegion]) -> list[tuple[str, str, tuple[float, float]]]:
    """(part, measure, (numerator, denominator)) of an image's regions."""
    found = record.regions
    overlaps = _ious(found, true)
    pairs, loose = _match(overlaps, MIN_IOU), _match(overlaps, LOOSE_IOU)
    texts = _text_sums(found, true, pairs, record.data_type != "ocr")
    texts["read"] = _text_sums(found, true, loose, False)["end_to_end"]
    sums = {"boxes": _box_sums(found, true, pairs, loose), "texts": texts}
    return [(part, name, two) for part, of_part in sums.items() for name, two in of_part.items()]


Pairs = list[tuple[int, int, float]]  # numbers of a found and of a true region, and their IoU


def _match(overlaps: np.ndarray, least: float) -> Pairs:
    """Pairs of an IoU of ``least`` or more, each box in one at most; ``overlaps``: (found, true)."""
    fits = overlaps >= least
    rows, columns = linear_sum_assignment(np.where(fits, overlaps, 0.0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(f, t, float(overlaps[f, t])) for f, t in pairs if fits[f, t]]


def _ious(found: Sequence[Region], true: Sequence[TrueRegion]) -> np.ndarray:
    """(found, true): intersection over union of upright boxes."""
    overlaps = [[iou(region.box, one.box) for one in true] for region in found]
    return np.array(overlaps, dtype=float).reshape(len(found), len(true))


def _best_reading(lines: Sequence[TrueRegion], found: Sequence[Region]) -> Iterator[TrueRegion]:
    """Each line as it was found: whole, or word by word where its words fit better."""
    for line in lines:
        words = list(line.parts) if len(line.parts) > 1 else []
        best = _ious(found, [line, *words]).max(axis=0, initial=0.0)
        best[best < MIN_IOU] = 0.0
        yield from words if words and best[1:].mean() > best[0] else [line]


def _box_sums(
    found: Sequence[Region], true: Sequence[TrueRegion], pairs: Pairs, loose: Pairs
) -> dict[str, tuple[float, float]]:
    matched = float(len(pairs))
    beyond = np.zeros(4)
    for f, t, _ in loose:
        beyond += (np.array(found[f].box) - np.array(true[t].box)) * _OUTWARD
    return {
        "precision": (matched, float(len(found))),
        "recall": (matched, float(len(true))),
        "f1": (2 * matched, float(len(found) + len(true))),
        "mean_iou": (sum(overlap for *_, overlap in pairs), matched),
        "located": (float(len(loose)), float(len(true))),
        "excess": (float(beyond.mean()), float(len(loose))),
        **{f"excess_{side}": (float(px), float(len(loose))) for side, px in zip(_SIDES, beyond, strict=True)},
    }


def _text_sums(
    found: Sequence[Region], true: Sequence[TrueRegion], pairs: Pairs, in_prose: bool
) -> dict[str, tuple[float, float]]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    texts = sum(bool(_plain(region.text)) for region in true)
    for f, t, _ in pairs:
        wanted = _plain(true[t].text)
        if not wanted:
            continue
        if found[f].text is None:
            texts -= 1
            continue
        said = _plain(found[f].text)
        of_pair = {"exact": (said == wanted, 1), "cer": (_edits(said, wanted), len(wanted))}
        if in_prose:
            of_pair["rouge_l"] = (_rouge(said, wanted), 1)
        for name, (above, below) in of_pair.items():
            sums[name][0] += above
            sums[name][1] += below
    sums["end_to_end"] = [sums["exact"][0], float(texts)]
    return {name: (float(above), float(below)) for name, (above, below) in sums.items()}


def _edits(said: str, wanted: str) -> int:
    return 0 if said == wanted else levenshtein(said, wanted)


def _rouge(said: str, wanted: str) -> float:
    return 1.0 if said == wanted else rouge_l(said, [wanted])


def _plain(text: str) -> str:
    return " ".join(text.split())


_MEASURES = [
    "precision", "recall", "f1", "mean_iou", "located", "excess", *(f"excess_{side}" for side in _SIDES),
    "exact", "cer", "rouge_l", "end_to_end", "read",
]  # fmt: skip


def _order(one: Measured) -> tuple:
    parts = ("boxes", "texts", "captions")
    return parts.index(one.part), (WHOLE, PIECES).index(one.unit), _MEASURES.index(one.measure)


def _in_words(measured: Sequence[Measured]) -> str:
    shown = {("boxes", "f1"), ("boxes", "excess"), ("texts", "read"), ("captions", "rouge_l")}
    return ", ".join(
        f"{one.part} ({one.unit}) {one.measure} {one.value:.3f}"
        for one in measured
        if (one.part, one.measure) in shown
    )
