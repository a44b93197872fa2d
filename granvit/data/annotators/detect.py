"""The detector: boxes of natural images that come without any, LAION and Flickr30k (Sec. 3)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from granvit.boxes import clip_box
from granvit.config.data import FilterRules
from granvit.data.annotators.annotate import REPLACED, Annotated
from granvit.data.records.filters import describe_image_rules, let_in
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Region
from granvit.data.records.shards import Sample
from granvit.data.sources.items import Reject
from granvit.errors import GranvitError

if TYPE_CHECKING:
    from torch import Tensor

BACKENDS = ("transformers", "detectron2")
# Images looked at together, in batches: enough that most share their size with others.
_BATCHES_AT_ONCE = 4


@dataclass(frozen=True)
class Detections:
    """What a model sees in one image: ``boxes (N, 4)`` xyxy in pixels of that image, ``scores (N)`` 0-1,
    ``labels (N)`` class numbers; on the CPU.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Backend(Protocol):
    """A detection model. ``prepare`` makes an image ready by itself, as tensors by name; ``detect`` takes
    images that may share a batch, with their sizes (width, height) as shown: those whose tensors have equal
    shapes, or any where ``pads_alike`` (the model brings every image to one size by itself).
    """

    pads_alike: bool

    def prepare(self, image: Image.Image) -> dict[str, Tensor]: ...

    def detect(self, prepared: list[dict[str, Tensor]], sizes: list[tuple[int, int]]) -> list[Detections]: ...


class Detector:
    """Annotator: replaces a record's regions by the boxes that a model finds, their texts still empty.

    Boxes with a score of ``min_score`` or more stay; of two of one class that overlap by more than
    ``nms_iou`` the surer one (None: no such choice, for DETR and its kin, which make it themselves); of the
    rest the ``max_boxes`` surest, surest first. The model sees ``images_at_once`` images of equal size at a
    time, not padded to that of the largest (YOLOS knows no padding mask, and DETR's backbone does not look
    at it): an image's boxes must not depend on its company.

    ``filters``: in images that their rules on size and shape drop, nothing is looked for (None: in all).
    That spares the work on a web source's small images, and the models pictures of a few pixels' height.
    """

    causes = (REPLACED,)

    def __init__(
        self,
        backend: str,
        model: str,
        weights: str | None = None,
        min_score: float = 0.5,
        nms_iou: float | None = 0.5,
        max_boxes: int = 100,
        batch_size: int = 8,
        device: str = "auto",
        filters: FilterRules | None = None,
    ):
        if backend not in BACKENDS:
            raise GranvitError(f"data.detector.backend is {backend!r}; expected one of {', '.join(BACKENDS)}")
        self.backend, self.model, self.weights, self.device = backend, model, weights, device
        self.min_score, self.nms_iou, self.max_boxes = min_score, nms_iou, max_boxes
        self.images_at_once, self.batch_size = batch_size, batch_size * _BATCHES_AT_ONCE
        self.filters = filters
        self._loaded: Backend | None = None

    def describe(self) -> dict[str, str]:
        weights = f" {self.weights}" if self.weights else ""
        nms = "no nms" if self.nms_iou is None else f"nms {self.nms_iou}"
        limits = f"score>={self.min_score} {nms} max {self.max_boxes}"
        limits += describe_image_rules(self.filters) if self.filters else ""
        return {"detector": f"{self.backend} {self.model}{weights} {limits}"}

    def annotate(self, samples: list[Sample]) -> list[Annotated]:
        if self._loaded is None:
            self._loaded = self._load()
        passing = [not self.filters or let_in(sample.record, self.filters) for sample in samples]
        found = iter(self._detect([sample.image for sample in compress(samples, passing)]))
        results = []
        for sample, passes in zip(samples, passing, strict=True):
            record, rejects = sample.record, [Reject("region", REPLACED, 1)] * len(sample.record.regions)
            regions = self._regions(next(found), record.width, record.height) if passes else []
            results.append(Annotated(replace(record, regions=regions), rejects))
        return results

    def close(self) -> None:
        self._loaded = None

    def _load(self) -> Backend:
        if self.backend == "detectron2":
            from granvit.data.annotators.detect_detectron2 import Detectron2Backend

            return Detectron2Backend(self.model, self.weights, self.device)
        return TransformersBackend(self.model, self.device)

    def _detect(self, images: list[bytes]) -> list[Detections]:
        prepared, sizes = [], []
        for data in images:
            image = decode_rgb(data)
            prepared.append(self._loaded.prepare(image))
            sizes.append(image.size)
        found: dict[int, Detections] = {}
        for group in _batches(prepared, self.images_at_once, self._loaded.pads_alike):
            seen = self._loaded.detect([prepared[i] for i in group], [sizes[i] for i in group])
            found.update(zip(group, seen, strict=True))
        return [found[i] for i in range(len(images))]

    def _regions(self, seen: Detections, width: int, height: int) -> list[Region]:
        sure = seen.scores >= self.min_score
        boxes, scores, labels = seen.boxes[sure], seen.scores[sure], seen.labels[sure]
        kept = nms(boxes, scores, labels, self.nms_iou)
        regions = []
        for box, score in zip(boxes[kept].tolist(), scores[kept].tolist(), strict=True):
            box = [round(value, 2) for value in clip_box(box, width, height)]
            if box[2] > box[0] and box[3] > box[1]:
                regions.append(Region(box, "", round(score, 4)))
        return regions[: self.max_boxes]


def _batches(prepared: Sequence[dict[str, Tensor]], at_once: int, any_shape: bool) -> Iterator[list[int]]:
    """Positions of items that may share a batch, at most ``at_once`` together."""
    groups: dict[tuple, list[int]] = {}
    for position, tensors in enumerate(prepared):
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(tensors.items()))
        groups.setdefault(() if any_shape else shapes, []).append(position)
    for positions in groups.values():
        rest = iter(positions)
        while group := list(islice(rest, at_once)):
            yield group


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float | None) -> list[int]:
    """Positions of the boxes that no surer box of the same label overlaps by more than ``iou``, surest first
    (``torchvision.ops.batched_nms``); None keeps all.

    ``boxes (N, 4)`` xyxy, ``scores (N)``, ``labels (N)``. Boxes that are no numbers are left out. Equal
    scores keep the order in which they came.
    """
    import torch

    order = torch.argsort(scores, descending=True, stable=True)
    order = order[torch.isfinite(boxes[order]).all(dim=1)]
    if iou is None:
        return order.tolist()
    ranked = boxes[order].double()
    area = (ranked[:, 2:] - ranked[:, :2]).clamp(min=0).prod(dim=1)
    kept: list[int] = []
    alive = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):
        if not alive[rank]:
            continue
        kept.append(int(order[rank]))
        low = torch.maximum(ranked[rank, :2], ranked[:, :2])
        high = torch.minimum(ranked[rank, 2:], ranked[:, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        overlaps = shared > iou * (area[rank] + area - shared)
        alive &= ~(overlaps & (labels[order] == labels[order[rank]]))
    return kept


class TransformersBackend:
    """Any ``AutoModelForObjectDetection`` with its image processor, from a folder or by hub id."""

    pads_alike = False

    def __init__(self, model: str, device: str):
        import torch
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        from granvit.device import pick_device

        self._torch, self._device = torch, pick_device(device)
        if Path(model).is_absolute() or model.startswith(".") or os.path.exists(model):
            _demand_model_folder(model)
        try:
            self._processor = AutoImageProcessor.from_pretrained(model)
            loaded, info = AutoModelForObjectDetection.from_pretrained(model, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise GranvitError(
                f"data.detector.model is {model!r}, which is no object detection model that transformers can "
                f"load ({str(error).splitlines()[0]}); name a folder with config.json, model.safetensors and "
                "preprocessor_config.json, or a hub id"
            ) from error
        if info["missing_keys"]:
            raise GranvitError(
                f"data.detector.model is {model!r}, whose checkpoint lacks {len(info['missing_keys'])} of "
                f"the detector's weights, such as {sorted(info['missing_keys'])[0]!r}: it was not trained to "
                "detect; name a detection checkpoint"
            )
        if not hasattr(self._processor, "post_process_object_detection"):
            raise GranvitError(
                f"data.detector.model is {model!r}, whose {type(self._processor).__name__} gives no boxes; "
                "name a model whose image processor has post_process_object_detection"
            )
        self._model = loaded.eval().to(self._device)

    def prepare(self, image: Image.Image) -> dict[str, Tensor]:
        return dict(self._processor(images=[image], return_tensors="pt"))

    def detect(self, prepared: list[dict[str, Tensor]], sizes: list[tuple[int, int]]) -> list[Detections]:
        inputs = {
            name: self._torch.cat([tensors[name] for tensors in prepared]).to(self._device)
            for name in prepared[0]
        }
        with self._torch.inference_mode():
            outputs = self._model(**inputs)
        heights_widths = [(height, width) for width, height in sizes]
        # Threshold 0: transformers keeps scores above it, the configuration says "or more".
        seen = self._processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=heights_widths
        )
        return [Detections(one["boxes"].cpu(), one["scores"].cpu(), one["labels"].cpu()) for one in seen]


def _demand_model_folder(model: str) -> None:
    if not (Path(model) / "config.json").is_file():
        raise GranvitError(
            f"data.detector.model is {model!r}: no config.json there; put the model's folder in that place "
            "(transformers' layout: config.json, model.safetensors, preprocessor_config.json)"
        )
