"""The detector: boxes of natural images that come without any, LAION and Flickr30k (Sec. 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress
from typing import TYPE_CHECKING

from granvit.boxes import clip_box
from granvit.config.data import DetectorSettings, FilterRules
from granvit.data.annotators.annotate import REPLACED, Annotated
from granvit.data.annotators.detect_backends import (
    Backend,
    Detections,
    Detectron2Backend,
    TransformersBackend,
)
from granvit.data.records.filters import describe_image_rules, let_in
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Region, Reject
from granvit.data.records.shards import Sample

if TYPE_CHECKING:
    from torch import Tensor

# Images looked at together, in batches: enough that most share their size with others.
_BATCHES_AT_ONCE = 4


class Detector:
    """Annotator: replaces a record's regions by the boxes that a model finds, their texts still empty.

    Boxes with a score of ``min_score`` or more stay; of two of one class that overlap by more than
    ``nms_iou`` the surer one (None: no such choice, for DETR and its kin, which make it themselves); of the
    rest the ``max_boxes`` surest, surest first. The model sees ``batch_size`` images of equal size at a time,
    not padded to that of the largest (YOLOS knows no padding mask, and DETR's backbone does not look at it):
    an image's boxes must not depend on its company.

    ``filters``: in images that their rules on size and shape drop, nothing is looked for (None: in all).
    That spares the work on a web source's small images, and the models pictures of a few pixels' height.
    """

    causes = (REPLACED,)

    def __init__(self, settings: DetectorSettings, device: str = "auto", filters: FilterRules | None = None):
        self.settings, self.device, self.filters = settings, device, filters
        self.batch_size = settings.batch_size * _BATCHES_AT_ONCE
        self._loaded: Backend | None = None

    def describe(self) -> dict[str, str]:
        chosen = self.settings
        weights = f" {chosen.weights}" if chosen.weights else ""
        nms = "no nms" if chosen.nms_iou is None else f"nms {chosen.nms_iou}"
        limits = f"score>={chosen.min_score} {nms} max {chosen.max_boxes}"
        limits += describe_image_rules(self.filters) if self.filters else ""
        return {"detector": f"{chosen.backend} {chosen.model}{weights} {limits}"}

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
        if self.settings.backend == "detectron2":
            return Detectron2Backend(self.settings.model, self.settings.weights, self.device)
        return TransformersBackend(self.settings.model, self.device)

    def _detect(self, images: list[bytes]) -> list[Detections]:
        prepared, sizes = [], []
        for data in images:
            image = decode_rgb(data)
            prepared.append(self._loaded.prepare(image))
            sizes.append(image.size)
        found: dict[int, Detections] = {}
        for group in _batches(prepared, self.settings.batch_size, self._loaded.pads_alike):
            seen = self._loaded.detect([prepared[i] for i in group], [sizes[i] for i in group])
            found.update(zip(group, seen, strict=True))
        return [found[i] for i in range(len(images))]

    def _regions(self, seen: Detections, width: int, height: int) -> list[Region]:
        sure = seen.scores >= self.settings.min_score
        boxes, scores, labels = seen.boxes[sure], seen.scores[sure], seen.labels[sure]
        kept = nms(boxes, scores, labels, self.settings.nms_iou)
        regions = []
        for box, score in zip(boxes[kept].tolist(), scores[kept].tolist(), strict=True):
            box = [round(value, 2) for value in clip_box(box, width, height)]
            if box[2] > box[0] and box[3] > box[1]:
                regions.append(Region(box, "", round(score, 4)))
        return regions[: self.settings.max_boxes]


def _batches(prepared: Sequence[dict[str, Tensor]], at_once: int, any_shape: bool) -> Iterator[list[int]]:
    """Positions of items that may share a batch, at most ``at_once`` together."""
    groups: dict[tuple, list[int]] = {}
    for position, tensors in enumerate(prepared):
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in sorted(tensors.items()))
        groups.setdefault(() if any_shape else shapes, []).append(position)
    for positions in groups.values():
        yield from (positions[start : start + at_once] for start in range(0, len(positions), at_once))


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float | None) -> list[int]:
    """Positions of the boxes that no surer box of the same label overlaps by more than ``iou``, surest first
    (``torchvision.ops.batched_nms``); None keeps all.

    ``boxes (N, 4)`` xyxy, ``scores (N)``, ``labels (N)``. Boxes with NaN or infinite corners are left
    out. Equal scores keep the order in which they came.
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
