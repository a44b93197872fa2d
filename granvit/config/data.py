"""The section `data` of the configuration: sources, annotators, filters, mixtures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from granvit.config.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Share, Strict, Url


class FilterRules(Strict):
    """The filters of Sec. 3 for one kind of data, by default the paper's; None (`null`) switches a rule off.

    An image's shorter side must be greater than ``min_image_side`` pixels; the longer side of an image or box
    is at most ``image_aspect`` or ``box_aspect`` times the shorter; a box's area must be greater than
    ``min_box_area`` square pixels; an image must keep ``min_regions`` regions. ``box_rules`` False: the two
    rules on boxes drop nothing, but are counted.
    """

    min_image_side: PositiveInt | None = 448
    image_aspect: Positive | None = 3.0
    box_aspect: Positive | None = 3.0
    min_box_area: Positive | None = 100.0**2
    box_rules: bool = True
    min_regions: NonNegativeInt = 1


class Filters(Strict):
    natural: FilterRules
    ocr: FilterRules

    def of(self, data_type: str) -> FilterRules:
        """The rules for a source's type of data."""
        return self.ocr if data_type == "ocr" else self.natural


class Budgets(Strict):
    """Region question-answer pairs in each named budget; `null` takes all there are."""

    m8: PositiveInt = Field(alias="8M")
    m16: PositiveInt = Field(alias="16M")
    m24: PositiveInt = Field(alias="24M")
    all: PositiveInt | None

    def regions(self, budget: str) -> int | None:
        return self.model_dump(by_alias=True)[budget]


class Ocr(Strict):
    """The models that read OCR images (granvit.data.annotators.ocr.OcrEngine)."""

    models_dir: str
    detection: str
    recognition: str
    engine: Literal["onnxruntime", "paddle"]
    device: str
    detection_side: PositiveInt | None
    rendered_detection_side: PositiveInt | None  # of the miniature's own pages
    min_score: Share


class DetectorSettings(Strict):
    """The model that boxes natural images (granvit.data.annotators.detect)."""

    backend: Literal["transformers", "detectron2"]
    model: str  # folder or hub id; for detectron2 a lazy-config .py file
    weights: str | None  # detectron2: the checkpoint file
    min_score: Share
    nms_iou: Share | None
    max_boxes: PositiveInt
    batch_size: PositiveInt


class CaptionerSettings(Strict):
    """The model that writes global and region captions (granvit.data.annotators.caption).

    `backend`, `model`, `max_region_words` and the token limits decide what the captions are: another value
    asks every question anew. `backend` is among them because a server prepares images and rounds in its own
    way. The server's address, how patiently it is asked and how many questions run at once decide nothing.
    """

    backend: Literal["transformers", "server"]
    model: str
    url: Url | None  # server: an OpenAI-compatible endpoint, up to and with `/v1`
    max_region_words: PositiveInt
    region_tokens: PositiveInt
    caption_tokens: PositiveInt
    batch_size: PositiveInt
    concurrency: PositiveInt
    timeout: Positive
    retries: NonNegativeInt
    max_wait: NonNegative
    give_up_after: PositiveInt


class Contamination(Strict):
    """Near-duplicates of benchmark images among the training images (granvit.data.mixtures.contamination)."""

    max_distance: NonNegativeInt  # bits of 64 in which two perceptual hashes may differ
    drop: bool


class Data(Strict):
    sources: str
    benchmarks: str
    rendered_images: dict[str, PositiveInt]
    rendered_questions: dict[str, PositiveInt]
    rendered_from: NonNegativeInt = Field(lt=90_000)
    max_reject_share: Share
    max_cut_share: Share
    max_image_pixels: PositiveInt
    detector: DetectorSettings
    captioner: CaptionerSettings
    ocr: Ocr
    ocr_region_share: Share
    sample_by: Literal["image", "region"]
    heldout_share: Share
    global_captions: Literal["chosen", "all"]
    budgets: Budgets
    contamination: Contamination
    filters: Filters
