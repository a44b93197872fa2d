"""Mixtures: which images and regions serve which task (step 5 of the data flow; Sec. 3 and 5.1).

An image is chosen whole, by a hash of its key: budgets nest, any machine agrees, and all regions of an image
stay together, so that it is encoded once. Held-out images are chosen by a hash of their *bytes*, in every
mixture alike: sources share images (the AI2D variants do), and a copy under another name must not leak into
training.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from granvit.boxes import format_box
from granvit.data.files import write_json
from granvit.data.mixture_file import write_sorted
from granvit.data.prompts import GLOBAL_CAPTION_QUESTION, bbox2caption_question, caption2bbox_question
from granvit.data.records import hash_key, hash_share
from granvit.errors import GranvitError

REGION_TASKS = ("bbox2caption", "caption2bbox")
TASKS = ("global_caption", *REGION_TASKS)
_CHOICE_COLUMNS = ["key", "data_type", "image_sha256", "regions"]

Row = dict


def build_heldout(
    indexes: Sequence[str | Path], out_parquet: str | Path, out_summary: str | Path, heldout_fraction: float
) -> None:
    """Hold out about that share of the images: both tasks on all their regions (Fig. 4a)."""

    def wanted(row: Row) -> bool:
        return is_held_out(row, heldout_fraction)

    _write(indexes, out_parquet, out_summary, wanted, lambda row: region_questions(row, REGION_TASKS))


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
) -> None:
    """Region mixture of stage 1 or 2.

    ``tasks``: of ``TASKS``; ``budget_regions``: images are taken in the order of their hash while their
    regions fit (None: all); ``ocr_share``: the share of OCR images, and with it of their regions, that takes
    part (50 M of 101.6 M); ``heldout_fraction``: as in ``build_heldout``; ``global_captions``: ``chosen``,
    the captions of the images within the budget, or ``all``, those of every image.
    """
    _check(tasks, global_captions)

    def is_eligible(row: Row) -> bool:
        return not is_held_out(row, heldout_fraction)

    def may_give_regions(row: Row) -> bool:
        return is_eligible(row) and (row["data_type"] != "ocr" or hash_share(row["key"], "ocr") < ocr_share)

    cutoff = _cutoff(indexes, budget_regions, may_give_regions, out_parquet)

    def is_within_budget(row: Row) -> bool:
        return may_give_regions(row) and (cutoff is None or hash_key(row["key"]) < cutoff)

    def questions(row: Row) -> list[Row]:
        return region_questions(row, tasks if is_within_budget(row) else ("global_caption",))

    wanted = is_eligible if global_captions == "all" and "global_caption" in tasks else is_within_budget
    _write(
        indexes, out_parquet, out_summary, wanted, questions, budget_regions=budget_regions, tasks=list(tasks)
    )


def build_conversation_mixture(
    indexes: Sequence[str | Path], out_parquet: str | Path, out_summary: str | Path, heldout_fraction: float
) -> None:
    """Mixture of instruction data (projector, SFT, continued): each turn of an image's conversations is one
    question.
    """

    def wanted(row: Row) -> bool:
        return not is_held_out(row, heldout_fraction)

    _write(indexes, out_parquet, out_summary, wanted, conversation_questions)


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


def _check(tasks: Sequence[str], global_captions: str) -> None:
    for task in tasks:
        if task not in TASKS:
            raise GranvitError(f"mixture: unknown task {task!r}; expected some of {', '.join(TASKS)}")
    if global_captions not in ("chosen", "all"):
        raise GranvitError(f"mixture: global_captions is {global_captions!r}; expected chosen or all")


def _cutoff(
    indexes: Sequence[str | Path], budget: int | None, eligible: Callable[[Row], bool], out: str | Path
) -> int | None:
    """The hash below which images are chosen, so that their regions come as close to ``budget`` as whole
    images can without passing it. None: no limit."""
    if budget is None:
        return None
    hashes, counts = [], []
    for index in indexes:
        for row in pq.read_table(index, columns=_CHOICE_COLUMNS).to_pylist():
            if eligible(row):
                hashes.append(hash_key(row["key"]))
                counts.append(len(row["regions"]))
    order = np.argsort(np.array(hashes, dtype=np.uint64), kind="stable")
    total = np.cumsum(np.array(counts, dtype=np.int64)[order])
    if not len(total) or total[-1] <= budget:
        logging.getLogger(__name__).warning(
            "%s: the budget asks for %d regions, the sources hold %d: all are taken",
            out, budget, total[-1] if len(total) else 0,
        )  # fmt: skip
        return None
    return hashes[order[np.searchsorted(total, budget, side="right")]]


def _write(
    indexes: Sequence[str | Path],
    out_parquet: str | Path,
    out_summary: str | Path,
    wanted: Callable[[Row], bool],
    questions: Callable[[Row], list[Row]],
    **facts: object,
) -> None:
    """Write the wanted images that have questions, and the summary: images, regions and questions, in all and
    by source.
    """
    images, regions, tasks = Counter(), Counter(), defaultdict(Counter)

    def rows() -> Iterable[Row]:
        for index in indexes:
            shard = Path(index).with_suffix(".tar").as_posix()
            for row in pq.read_table(index).to_pylist():
                qa = questions(row) if wanted(row) else []
                if not qa:
                    continue
                source = row["source"]
                images[source] += 1
                counts = Counter(item["task"] for item in qa)
                tasks[source] += counts
                regions[source] += max(counts[task] for task in REGION_TASKS)
                yield row | {"shard": shard, "qa": qa}

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
        "sources": {
            name: {"images": images[name], "regions": regions[name], "qa": dict(tasks[name])}
            for name in images
        },
    }
    write_json(out_summary, facts | summary)
