"""Mixtures: which images and regions serve which task (step 5 of the data flow; Sec. 3 and 5.1).

Images, or single regions, are chosen by a hash of their key: budgets nest and any machine agrees. Choosing by
image keeps all its regions together, so that it is encoded once. Held-out images are chosen by a hash of
their *bytes*, in every mixture alike: sources share images (the AI2D variants do), and a copy under another
name must not leak into training.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from granvit.boxes import format_box
from granvit.data.mixtures.mixture_file import write_sorted
from granvit.data.records.prompts import (
    GLOBAL_CAPTION_QUESTION,
    bbox2caption_question,
    caption2bbox_question,
)
from granvit.data.records.records import hash_key, hash_share
from granvit.errors import GranvitError
from granvit.files import write_json
from granvit.progress import Progress

REGION_TASKS = ("bbox2caption", "caption2bbox")
TASKS = ("global_caption", *REGION_TASKS)
_ROWS_AT_ONCE = 2000
NO_LIMIT = 1 << 64  # above every hash

Row = dict
# What a mixture asks about an index row, or why it leaves the image out
Choice = Callable[[Row], "list[Row] | str"]


def build_heldout(
    indexes: Sequence[str | Path],
    out_parquet: str | Path,
    out_summary: str | Path,
    heldout_fraction: float,
    contamination: str | Path | None = None,
    log: str | Path | None = None,
) -> None:
    """Hold out about that share of the images: both tasks on all their regions (Fig. 4a)."""

    def choose(row: Row) -> list[Row] | str:
        held_out = is_held_out(row, heldout_fraction)
        return region_questions(row, REGION_TASKS) if held_out else "not_held_out"

    _write(indexes, out_parquet, out_summary, _without(contamination, choose), log)


def is_held_out(row: Row, heldout_fraction: float) -> bool:
    """Whether an index row's image belongs to the held-out split, which no other mixture contains."""
    return hash_share(row["image_sha256"], "held-out") < heldout_fraction


def build_mixture(
    indexes: Sequence[str | Path],
    out_parquet: str | Path,
    out_summary: str | Path,
    tasks: Sequence[str],
    budget_regions: int | None,
    ocr_share: float,
    heldout_fraction: float,
    global_captions: str = "chosen",
    sample_by: str = "image",
    contamination: str | Path | None = None,
    log: str | Path | None = None,
) -> None:
    """Region mixture of stage 1 or 2.

    ``tasks``: of ``TASKS``; ``sample_by``: ``image``, whole images are taken in the order of their hash while
    their regions fit into ``budget_regions`` (None: all), or ``region``, single regions are, and their images
    come along with these regions only; ``ocr_share``: the share of OCR images (of OCR regions, by region)
    that takes part (50 M of 101.6 M); ``heldout_fraction``: as in ``build_heldout``; ``global_captions``:
    ``chosen``, the captions of the images that give regions, or ``all``, those of every image;
    ``contamination``: matches of ``granvit.data.mixtures.contamination``, whose images are left out.
    """
    _check(tasks, global_captions, sample_by)
    by_image = sample_by == "image"
    unit_hashes = _image_hashes if by_image else _region_hashes
    every_caption = global_captions == "all" and "global_caption" in tasks
    dropped = _contaminated(contamination)

    def is_eligible(row: Row) -> bool:
        return row["key"] not in dropped and not is_held_out(row, heldout_fraction)

    budget = Budget(budget_regions)
    if budget_regions is not None:
        leaf = "score" if by_image else "box"  # enough to count, or to name, a row's regions
        columns = ["key", "data_type", "image_sha256", f"regions.list.element.{leaf}"]
        for row in _rows(indexes, columns, Progress(len(indexes), "budget", "shards", log)):
            if is_eligible(row):
                weight = len(row["regions"]) if by_image else 1
                budget.add([value for value in unit_hashes(row, ocr_share) if value is not None], weight)
        if not budget.is_reached():
            logging.getLogger(__name__).warning(
                "%s: the budget asks for %d regions, the sources hold %d: all are taken",
                out_parquet, budget_regions, budget.total,
            )  # fmt: skip
    limit = budget.cutoff()

    def choose(row: Row) -> list[Row] | str:
        if is_held_out(row, heldout_fraction):
            return "held_out"
        hashes = unit_hashes(row, ocr_share)
        taken = [value is not None and value < limit for value in hashes]
        if not any(taken):
            caption = region_questions(row, ("global_caption",)) if every_caption else []
            return caption or ("no_region" if not hashes else "ocr_share" if None in hashes else "budget")
        regions = row["regions"]
        if not by_image:
            regions = [region for region, is_taken in zip(regions, taken, strict=True) if is_taken]
        return region_questions(row | {"regions": regions}, tasks)

    choice = _without(dropped, choose)
    facts = {"budget_regions": budget_regions, "tasks": list(tasks), "sample_by": sample_by}
    _write(indexes, out_parquet, out_summary, choice, log, **facts)


def build_conversation_mixture(
    indexes: Sequence[str | Path],
    out_parquet: str | Path,
    out_summary: str | Path,
    heldout_fraction: float,
    contamination: str | Path | None = None,
    log: str | Path | None = None,
) -> None:
    """Mixture of instruction data (projector, SFT, continued): each turn of an image's conversations is one
    question.
    """

    def choose(row: Row) -> list[Row] | str:
        return "held_out" if is_held_out(row, heldout_fraction) else conversation_questions(row)

    _write(indexes, out_parquet, out_summary, _without(contamination, choose), log)


class Budget:
    """Finds the hash below which units (images or regions) are chosen: in the order of their hashes, as many
    as fit into ``regions`` (None: all).

    What no longer fits once can never fit again, because more units only push it further back. So it is
    thrown away every now and then, and memory grows with the budget instead of with the data.
    """

    def __init__(self, regions: int | None, pending: int = 2_000_000) -> None:
        self.regions = regions
        self.total = 0  # regions offered, whether they fit or not
        self._pending = pending
        self._limit = NO_LIMIT
        self._hashes = np.empty(0, np.uint64)
        self._weights = np.empty(0, np.int32)
        self._new_hashes: list[int] = []
        self._new_weights: list[int] = []

    def add(self, hashes: Sequence[int], weight: int) -> None:
        """Offer units of ``weight`` regions each."""
        self.total += len(hashes) * weight
        for value in hashes:
            if value < self._limit:
                self._new_hashes.append(value)
                self._new_weights.append(weight)
        if len(self._new_hashes) >= self._pending:
            self._shrink()

    def is_reached(self) -> bool:
        """Whether there is more than the budget asks for."""
        return self.regions is not None and self.total > self.regions

    def cutoff(self) -> int:
        """The smallest hash that is not chosen; above every hash where all units fit."""
        self._shrink()
        return self._limit

    def _shrink(self) -> None:
        if self.regions is None:
            return
        hashes = np.concatenate([self._hashes, np.array(self._new_hashes, np.uint64)])
        weights = np.concatenate([self._weights, np.array(self._new_weights, np.int32)])
        self._new_hashes, self._new_weights = [], []
        order = np.argsort(hashes, kind="stable")
        fits = np.searchsorted(np.cumsum(weights[order], dtype=np.int64), self.regions, side="right")
        if fits < len(order):
            self._limit = min(self._limit, int(hashes[order[fits]]))
        self._hashes, self._weights = hashes[order[:fits]], weights[order[:fits]]


def _image_hashes(row: Row, ocr_share: float) -> list[int | None]:
    """The hash that chooses a whole image; None where OCR's share leaves it out."""
    left_out = row["data_type"] == "ocr" and hash_share(row["key"], "ocr") >= ocr_share
    return [None if left_out else hash_key(row["key"])]


def _region_hashes(row: Row, ocr_share: float) -> list[int | None]:
    """The hash that chooses each region, None where OCR's share leaves it out.

    A region is its box: its position in the list would change with the filters.
    """
    names = [f"{row['key']} {','.join(map(repr, region['box']))}" for region in row["regions"]]
    is_ocr = row["data_type"] == "ocr"
    return [
        None if is_ocr and hash_share(name, "ocr") >= ocr_share else hash_key(name, "region")
        for name in names
    ]


def _contaminated(matches: str | Path | None) -> set[str]:
    """Keys of the images that look like a benchmark's."""
    return set(pq.read_table(matches, columns=["key"])["key"].unique().to_pylist()) if matches else set()


def _without(contamination: set[str] | str | Path | None, choose: Choice) -> Choice:
    """The choice, once the contaminated images are left out."""
    dropped = contamination if isinstance(contamination, set) else _contaminated(contamination)
    return lambda row: "contaminated" if row["key"] in dropped else choose(row)


def region_questions(row: Row, tasks: Iterable[str]) -> list[Row]:
    """Questions and answers of an index row for the given tasks (Sec. 3), the global caption first, where
    there is one.
    """
    qa = []
    if "global_caption" in tasks and row["caption"]:
        qa.append(_qa("global_caption", GLOBAL_CAPTION_QUESTION, row["caption"]))
    for region in row["regions"]:
        box, text = region["box"], region["text"]
        box_text = format_box(box, row["width"], row["height"])
        if "bbox2caption" in tasks:
            qa.append(_qa("bbox2caption", bbox2caption_question(box_text), text, box))
        if "caption2bbox" in tasks:
            qa.append(_qa("caption2bbox", caption2bbox_question(text), box_text, box))
    return qa


def conversation_questions(row: Row) -> list[Row]:
    """Questions and answers of an index row's conversations."""
    return [_qa("instruction", turn["question"], turn["answer"]) for turn in row["conversations"]]


def _qa(task: str, question: str, answer: str, box: list[float] | None = None) -> Row:
    return {"task": task, "question": question, "answer": answer, "box": box}


def _check(tasks: Sequence[str], global_captions: str, sample_by: str) -> None:
    for task in tasks:
        if task not in TASKS:
            raise GranvitError(f"mixture: unknown task {task!r}; expected some of {', '.join(TASKS)}")
    if global_captions not in ("chosen", "all"):
        raise GranvitError(f"mixture: global_captions is {global_captions!r}; expected chosen or all")
    if sample_by not in ("image", "region"):
        raise GranvitError(f"mixture: sample_by is {sample_by!r}; expected image or region")


def _rows(indexes: Sequence[str | Path], columns: list[str] | None, progress: Progress) -> Iterator[Row]:
    """Rows of all indexes, each with its ``shard``, some thousand in memory at a time."""
    for number, index in enumerate(indexes, 1):
        shard = Path(index).with_suffix(".tar").as_posix()
        with pq.ParquetFile(index) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    yield row | {"shard": shard}
        progress.update(number)


def _write(
    indexes: Sequence[str | Path],
    out_parquet: str | Path,
    out_summary: str | Path,
    choose: Choice,
    log: str | Path | None,
    **facts: object,
) -> None:
    """Write the images that ``choose`` asks about, and the summary: images, regions and questions, in all and
    by source, and how many images were left out, by reason.
    """
    images, regions, left_out = Counter(), Counter(), Counter()
    tasks = defaultdict(Counter)

    def rows() -> Iterable[Row]:
        for row in _rows(indexes, None, Progress(len(indexes), "mixture", "shards", log)):
            qa = choose(row)
            if isinstance(qa, str) or not qa:
                left_out[qa or "no_question"] += 1
                continue
            source = row["source"]
            images[source] += 1
            counts = Counter(item["task"] for item in qa)
            tasks[source] += counts
            regions[source] += max(counts[task] for task in REGION_TASKS)
            yield row | {"qa": qa}

        if not images:
            raise GranvitError(
                f"{out_parquet}: no image is left for this mixture; give its sources more images, "
                "or check the filters' counts, the budget and the held-out share"
            )

    write_sorted(rows(), out_parquet)
    summary = {
        "images": images.total(),
        "regions": regions.total(),
        "qa": dict(sum(tasks.values(), Counter())),
        "left_out": dict(left_out),
        "sources": {
            name: {"images": images[name], "regions": regions[name], "qa": dict(tasks[name])}
            for name in images
        },
    }
    write_json(out_summary, facts | summary)
