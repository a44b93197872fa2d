"""Whether a box of PaddleOCR means to the frozen LLM what a box around the ink means.

Stage 1 teaches the encoder through a frozen LLM: where an annotator's boxes are wider than those that the LLM
learnt from, it is taught that words stand where they do not. So the same texts of the same pages are asked
about by both boxes, and the losses compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import torch

from granvit.boxes import format_box, iou
from granvit.data.records.images import decode_rgb
from granvit.data.records.prompts import bbox2caption_question
from granvit.data.records.records import Record, readable_key
from granvit.data.records.shards import read_image_bytes
from granvit.data.sources.truth import Truth, TruthOf
from granvit.errors import GranvitError
from granvit.files import write_json
from granvit.miniature.truth import rendered_truth
from granvit.models.mllm import MLLM
from granvit.models.packing import pack

BATCH = 8  # pages
Pair = tuple[str, list[float], list[float]]  # a text, PaddleOCR's box and that of the ink


def matched(row: dict, truth: Truth) -> list[Pair]:
    """What PaddleOCR read of a page (a row of a mixture) word for word as it is printed, a line or a word of
    one, each with both boxes."""
    printed = [one for region in truth.regions for one in (region, *region.parts)]
    pairs = []
    for asked in row["qa"]:
        boxes = [one.box for one in printed if one.text == asked["answer"]]
        if asked["box"] and boxes:
            nearest = max(boxes, key=lambda box: iou(box, asked["box"]))
            if iou(nearest, asked["box"]) > 0:
                pairs.append((asked["answer"], asked["box"], list(nearest)))
    return pairs


def pages(mixture: Path, truths: Mapping[str, TruthOf], images: int) -> Iterator[tuple[dict, list[Pair]]]:
    """The first ``images`` rows of ``mixture`` (sorted by a hash of their keys) that have a matched text;
    ``truths``: source -> what is printed on its images."""
    found = 0
    for row in pq.read_table(mixture).to_pylist():
        source, _, name = readable_key(row["key"]).partition("/")
        file = {"file": f"images/{name}"}
        record = Record(row["key"], source, "ocr", row["width"], row["height"], provenance=file)
        truth = truths[source](record) if source in truths else None
        if truth and (pairs := matched(row, truth)):
            yield row, pairs
            found += 1
        if found == images:
            return


@torch.inference_mode()
def page_losses(
    model_dir: Path, mixture: Path, truths: Mapping[str, TruthOf], images: int
) -> dict[str, float]:
    """Mean loss of a token of the matched texts, asked about by PaddleOCR's boxes and by those of the ink.

    Raises GranvitError where no text is matched.
    """
    model = MLLM.load(model_dir)
    sums, questions, tokens = {"annotated": 0.0, "ink": 0.0}, 0, 0
    rows = [*pages(mixture, truths, images)]
    for begin in range(0, len(rows), BATCH):
        part = rows[begin : begin + BATCH]
        pixels = [decode_rgb(read_image_bytes(row["shard"], row["offset"], row["size"])) for row, _ in part]
        seen = model.encode_images(torch.stack([model.preprocess(image) for image in pixels]))
        for number, kind in enumerate(sums, 1):
            segments = [
                [_segment(model, row, pair[0], pair[number]) for pair in pairs] for row, pairs in part
            ]
            losses = model.token_losses(seen, pack(segments, model.chat, model.image_tokens))
            sums[kind] += losses.sum().item()
        questions, tokens = questions + sum(len(pairs) for _, pairs in part), tokens + len(losses)
    if not questions:
        raise GranvitError(f"{mixture}: no text of {', '.join(truths)} was read as it is printed")
    means = {kind: total / tokens for kind, total in sums.items()}
    return {"pages": len(rows), "questions": questions, **means, "ratio": means["annotated"] / means["ink"]}


def _segment(model: MLLM, row: dict, text: str, box: list[float]):
    return model.chat.segment(bbox2caption_question(format_box(box, row["width"], row["height"])), text)


def write_page_losses(
    model_dir: Path, mixture: Path, rendered: Mapping[str, int], images: int, out: Path
) -> None:
    """`page_losses` as JSON; ``rendered``: source -> how many images of it there are."""
    truths = {source: rendered_truth(source, count) for source, count in rendered.items()}
    write_json(out, page_losses(model_dir, mixture, truths, images))
