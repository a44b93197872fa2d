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
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import compress
from pathlib import Path

import pyarrow.parquet as pq

from granvit.boxes import format_box
from granvit.data.mixtures.budget import Budget
from granvit.data.mixtures.mixture_file import write_sorted
from granvit.data.mixtures.shuffle import Donors, region_name, shuffle_boxes
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
_ROWS_AT_ONCE = 2000  # of an index

Row = dict


@dataclass(frozen=True)
class Drawing:
    """Draws a mixture from packed shards, which their indexes stand for, and writes it with a summary.

    ``heldout_fraction``: the share of the images, about, that only `held_out` takes; ``contamination``:
    matches of ``granvit.data.mixtures.contamination``, whose images no mixture takes.
    """

    indexes: Sequence[str | Path]
    out_parquet: str | Path
    out_summary: str | Path
    heldout_fraction: float
    contamination: str | Path | None = None
    log: str | Path | None = None

    def held_out(self) -> None:
        """The held-out images: both tasks on all their regions (Fig. 4a)."""
        questions = partial(region_questions, tasks=REGION_TASKS)
        self._write(lambda row: questions(row) if self._is_held_out(row) else "not_held_out")

    def conversations(self) -> None:
        """Instruction data (projector, SFT, continued): each turn of a conversation is one question."""
        self._write(lambda row: "held_out" if self._is_held_out(row) else conversation_questions(row))

    def regions(
        self,
        tasks: Sequence[str],
        budget_regions: int | None,
        ocr_share: float,
        global_captions: str = "chosen",
        sample_by: str = "image",
        shuffled: bool = False,
    ) -> None:
        """Region mixture of stage 1 or 2.

        ``tasks``: of ``TASKS``; ``sample_by``: ``image``, whole images are taken in the order of their hash
        while their regions fit into ``budget_regions`` (None: all), or ``region``, single regions are, and
        their images come along with these regions only; ``ocr_share``: the share of OCR images (of OCR
        regions, by region) that takes part (50 M of 101.6 M); ``global_captions``: ``chosen``, the captions
        of the images that give regions, or ``all``, those of every image; ``shuffled``: each text with the
        box of another region (a control, ``granvit.data.mixtures.shuffle``).
        """
        _check(tasks, global_captions, sample_by)
        by_image = sample_by == "image"
        unit_hashes = _image_hashes if by_image else _region_hashes
        every_caption = global_captions == "all" and "global_caption" in tasks
        limit = self._limit(budget_regions, by_image, lambda row: unit_hashes(row, ocr_share))
        donors = self._donors() if shuffled else None

        def choose(row: Row) -> list[Row] | str:
            if self._is_held_out(row):
                return "held_out"
            hashes = unit_hashes(row, ocr_share)
            taken = [value is not None and value < limit for value in hashes]
            if not any(taken):
                caption = region_questions(row, ("global_caption",)) if every_caption else []
                return caption or ("no_region" if not hashes else "ocr_share" if None in hashes else "budget")
            regions = row["regions"] if by_image else list(compress(row["regions"], taken))
            chosen = row | {"regions": regions}
            if donors:
                chosen["regions"] = shuffle_boxes(chosen, donors)
            return region_questions(chosen, tasks)

        self._write(choose, budget_regions=budget_regions, tasks=list(tasks), sample_by=sample_by)

    def _limit(
        self, budget_regions: int | None, by_image: bool, hashes_of: Callable[[Row], list[int | None]]
    ) -> int:
        """The hash below which images (or regions) are taken."""
        budget = Budget(budget_regions)
        if budget_regions is None:
            return budget.cutoff()
        leaf = "score" if by_image else "box"  # enough to count, or to name, a row's regions
        columns = ["key", "data_type", "image_sha256", f"regions.list.element.{leaf}"]
        for row in self._rows("budget", columns):
            if row["key"] not in self._contaminated and not self._is_held_out(row):
                weight = len(row["regions"]) if by_image else 1
                budget.add([value for value in hashes_of(row) if value is not None], weight)
        if not budget.is_reached():
            logging.getLogger(__name__).warning(
                "%s: the budget asks for %d regions, the sources hold %d: all are taken",
                self.out_parquet, budget_regions, budget.total,
            )  # fmt: skip
        return budget.cutoff()

    def _donors(self) -> Donors:
        """Boxes of the images that may be learnt from."""
        columns = ["key", "data_type", "image_sha256", "width", "height", "regions.list.element.box"]
        rows = self._rows("donors", columns)
        left_out = self._contaminated
        return Donors(row for row in rows if row["key"] not in left_out and not self._is_held_out(row))

    @cached_property
    def _contaminated(self) -> set[str]:
        """Keys of the images that look like a benchmark's."""
        if not self.contamination:
            return set()
        return set(pq.read_table(self.contamination, columns=["key"])["key"].unique().to_pylist())

    def _is_held_out(self, row: Row) -> bool:
        return hash_share(row["image_sha256"], "held-out") < self.heldout_fraction

    def _rows(self, label: str, columns: list[str] | None = None) -> Iterator[Row]:
        """Rows of all indexes, each with its ``shard``."""
        progress = Progress(len(self.indexes), label, "shards", self.log)
        for number, index in enumerate(self.indexes, 1):
            yield from index_rows(index, columns)
            progress.update(number)

    def _write(self, choose: Callable[[Row], list[Row] | str], **facts: object) -> None:
        """Write the images that ``choose`` asks about (where it does not, it says why), and the summary:
        images, regions and questions, in all and by source, and how many images were left out, by reason.
        """
        _refuse_empty_sources(self.indexes)
        images, regions, left_out = Counter(), Counter(), Counter()
        tasks = defaultdict(Counter)

        def rows() -> Iterable[Row]:
            for row in self._rows("mixture"):
                qa = "contaminated" if row["key"] in self._contaminated else choose(row)
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
                    f"{self.out_parquet}: no image is left for this mixture; give its sources more images, "
                    "or check the filters' counts, the budget and the held-out share"
                )

        write_sorted(rows(), self.out_parquet)
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
        write_json(self.out_summary, facts | summary)


def _refuse_empty_sources(indexes: Sequence[str | Path]) -> None:
    """Raise GranvitError for a source, a folder of packed shards, in which no image is left."""
    rows: Counter[str] = Counter()
    for index in map(Path, indexes):
        rows[index.parent.name] += pq.read_metadata(index).num_rows
    for source, number in rows.items():
        if not number:
            raise GranvitError(
                f"source {source!r}: its packed shards hold no image; `snakemake shards` says which rule "
                "took how many"
            )


def index_rows(index: str | Path, columns: list[str] | None = None) -> Iterator[Row]:
    """Rows of a packed shard's index, each with its ``shard``, some thousand in memory at a time."""
    shard = Path(index).with_suffix(".tar").as_posix()
    with pq.ParquetFile(index) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
            for row in batch.to_pylist():
                yield {"shard": shard} | row


def _image_hashes(row: Row, ocr_share: float) -> list[int | None]:
    """The hash that chooses a whole image; None where OCR's share leaves it out."""
    left_out = row["data_type"] == "ocr" and hash_share(row["key"], "ocr") >= ocr_share
    return [None if left_out else hash_key(row["key"])]


def _region_hashes(row: Row, ocr_share: float) -> list[int | None]:
    """The hash that chooses each region, None where OCR's share leaves it out."""
    names = [region_name(row, region) for region in row["regions"]]
    is_ocr = row["data_type"] == "ocr"
    return [
        None if is_ocr and hash_share(name, "ocr") >= ocr_share else hash_key(name, "region")
        for name in names
    ]


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
