"""Which annotators a source gets, and what of the configuration decides their outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.config.compute import Compute
from granvit.config.data import CaptionerSettings, Data, DetectorSettings, FilterRules
from granvit.data.annotators.annotate import Annotator

if TYPE_CHECKING:
    from granvit.data.sources.table import SourceSpec

# Where and how fast an annotator runs, and how it deals with a server: none of it changes what it writes.
_DETECTOR_RUNS = {"batch_size"}
_CAPTIONER_RUNS = {
    "url", "batch_size", "concurrency", "timeout", "retries", "max_wait", "give_up_after",
}  # fmt: skip
_OCR_RUNS = {"device"}


def annotation_settings(source: SourceSpec, data: Data, rendered: bool = False) -> dict[str, Any]:
    """What a source's boxes and texts depend on: where each comes from, and the settings of the annotators
    that the source uses. A change of any other setting annotates nothing anew. Filters are among them, since
    nothing is looked for in images that they drop, and no captions are asked for what they drop.

    ``rendered``: the miniature drew the source's pages, whose letters are large enough to be found on smaller
    pictures than people's pages need (``ocr.rendered_detection_side``).
    """
    chosen: dict[str, Any] = {"boxes": source.boxes, "captions": source.captions, "text": source.text}
    filters = data.filters.of(source.data_type)
    if source.boxes == "detector":
        chosen["detector"] = data.detector.model_dump(exclude=_DETECTOR_RUNS)
    if "captioner" in (source.captions, source.text):
        chosen["captioner"] = data.captioner.model_dump(exclude=_CAPTIONER_RUNS)
        chosen["filters"] = filters.model_dump()
    if source.boxes == "ocr":
        chosen["ocr"] = data.ocr.model_dump(exclude={*_OCR_RUNS, "rendered_detection_side"})
        if rendered and data.ocr.rendered_detection_side:
            chosen["ocr"]["detection_side"] = data.ocr.rendered_detection_side
    if source.boxes in ("detector", "ocr"):
        chosen["image_rules"] = filters.model_dump(include={"min_image_side", "image_aspect"})
    return chosen


def build_annotators(
    chosen: dict[str, Any],
    data: Data,
    compute: Compute,
    threads: int,
    answers: Path,
    log: str | Path | None = None,
) -> list[Annotator]:
    """The annotators for what ``annotation_settings`` gave, in the order in which they work: boxes before the
    texts about them. None for a source that brings everything itself.

    ``data`` and ``compute`` add how they run; ``threads`` are the job's; ``answers`` is the file in which the
    captioner keeps what it was told. Models are loaded when the first image comes, not here.
    """
    annotators: list[Annotator] = []
    if "detector" in chosen:
        from granvit.data.annotators.detect import Detector

        how = data.detector.model_dump(include=_DETECTOR_RUNS)
        rules = FilterRules(**chosen["image_rules"])
        settings = DetectorSettings(**chosen["detector"], **how)
        annotators.append(Detector(settings, compute.device, rules))
    if "captioner" in chosen:
        from granvit.data.annotators.caption import Captioner

        how = data.captioner.model_dump(include=_CAPTIONER_RUNS)
        annotators.append(
            Captioner(
                CaptionerSettings(**chosen["captioner"], **how),
                captions=chosen["captions"] == "captioner",
                regions=chosen["text"] == "captioner",
                cache=answers,
                filters=FilterRules(**chosen["filters"]),
                max_reject_share=data.max_reject_share,
                device=compute.device,
                log=log,
            )
        )
    if "ocr" in chosen:
        from granvit.data.annotators.ocr import OcrEngine, OcrReader

        models = dict(chosen["ocr"])
        min_score = models.pop("min_score")
        how = data.ocr.model_dump(include=_OCR_RUNS)
        rules = FilterRules(**chosen["image_rules"])
        annotators.append(OcrReader(OcrEngine(threads=threads, **models, **how), min_score, rules))
    return annotators
