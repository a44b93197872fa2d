"""Detectron2's back end of the detector, as far as it can be tested where Detectron2 is not installed."""

from __future__ import annotations

import importlib.util
import io
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from data_worlds import image_bytes
from PIL import Image

from granvit.config.data import DetectorSettings
from granvit.data.annotators.detect import Detector
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Record, Region
from granvit.data.records.shards import Sample
from granvit.errors import GranvitError


def page(image: bytes | None = None) -> Sample:
    image = image or image_bytes("page", (80, 60))
    return Sample(Record("k0", "S", "natural", *decode_rgb(image).size), image, "png")


def detector(folder, weights) -> Detector:
    settings = DetectorSettings(
        backend="detectron2", model=str(folder / "config.py"), weights=weights and str(weights),
        min_score=0.5, nms_iou=0.5, max_boxes=100, batch_size=8,
    )  # fmt: skip
    return Detector(settings, "cpu")


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed here")
def test_detectron2_that_is_missing_says_how_to_get_it_or_do_without(tmp_path):
    for name in ("config.py", "weights.pkl"):
        (tmp_path / name).write_bytes(b"")
    chosen = detector(tmp_path, tmp_path / "weights.pkl")
    with pytest.raises(GranvitError, match=r"data\.detector\.backend.*install.*backend: transformers"):
        chosen.annotate([page()])
    with pytest.raises(GranvitError, match=r"data\.detector\.weights is None"):
        detector(tmp_path, None).annotate([page()])


class Instances:
    """As much of detectron2.structures.Instances as the back end uses."""

    def __init__(self, boxes, scores, classes):
        self.pred_boxes = types.SimpleNamespace(tensor=boxes)
        self.scores, self.pred_classes = scores, classes

    def to(self, device):
        return self


class BrightCorner(torch.nn.Module):
    """Takes and gives what a Detectron2 model does: one box around the pixels whose red exceeds a weight."""

    input_format = "RGB"

    def __init__(self):
        super().__init__()
        self.limit = torch.nn.Parameter(torch.tensor(0.0))
        self.roi_heads = types.SimpleNamespace(mask_on=True)
        self.backbone = types.SimpleNamespace(padding_constraints={"square_size": 1024})
        self.batches = []

    def forward(self, asked):
        assert not self.training and not self.roi_heads.mask_on
        self.batches.append(len(asked))
        return [{"instances": self._seen(one)} for one in asked]

    def _seen(self, one):
        _, height, width = one["image"].shape
        rows, columns = torch.where(one["image"][0] > self.limit)
        x, y = one["width"] / width, one["height"] / height
        box = [columns.min() * x, rows.min() * y, (columns.max() + 1) * x, (rows.max() + 1) * y]
        return Instances(torch.tensor([box]), torch.tensor([0.75]), torch.tensor([0]))


@pytest.fixture
def stubbed_detectron2(monkeypatch, tmp_path):
    """Detectron2 cannot be installed everywhere: the import boundary alone is stood in for, its documented
    calls and their order; the weights file, resizing and boxes are real."""

    def half(pixels):
        return types.SimpleNamespace(apply_image=lambda image: image[::2, ::2])

    config = types.ModuleType("detectron2.config")
    resizes = [types.SimpleNamespace(get_transform=half)]
    mapper = types.SimpleNamespace(augmentations=lambda: resizes)
    loader = types.SimpleNamespace(test=types.SimpleNamespace(mapper=mapper))
    described = types.SimpleNamespace(model=BrightCorner, dataloader=loader)
    config.LazyConfig = types.SimpleNamespace(load=lambda path: described)
    config.instantiate = lambda what: what()
    monkeypatch.setitem(sys.modules, "detectron2", types.ModuleType("detectron2"))
    monkeypatch.setitem(sys.modules, "detectron2.config", config)
    (tmp_path / "config.py").write_text("")

    def build(content, suffix=".pkl"):
        weights = tmp_path / f"weights{suffix}"
        weights.write_bytes(content)
        return detector(tmp_path, weights)

    return build


def test_detectron2_is_asked_at_its_own_resolution_and_answers_in_the_images_pixels(stubbed_detectron2):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:40, 10:50, 0] = 200  # red, so that RGB and BGR differ
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    weights = pickle.dumps({"model": {"limit": np.array(100.0, np.float32)}, "__author__": "zoo"})
    (found,) = stubbed_detectron2(weights).annotate([page(buffer.getvalue())])
    assert found.record.regions == [Region([10, 20, 50, 40], "", 0.75)]


def test_images_of_all_sizes_share_batches_where_the_model_pads_them_alike(stubbed_detectron2):
    detector = stubbed_detectron2(pickle.dumps({"limit": np.array(-1.0, np.float32)}))
    pages = [page(image_bytes(f"{i}", (60 + 2 * i, 80))) for i in range(10)]
    found = detector.annotate(pages)
    assert detector._loaded._model.batches == [8, 2]
    whole = [[0, 0, one.record.width, one.record.height] for one in pages]
    assert [one.record.regions[0].box for one in found] == whole


class Theft:
    def __reduce__(self):
        return (print, ("code in a checkpoint was run",))


def test_a_checkpoint_may_hold_arrays_and_nothing_else(stubbed_detectron2, capsys):
    for content in (
        pickle.dumps({"model": Theft()}),
        pickle.dumps({"model": {"limit": Theft()}}),
        b"",
        b"no",
    ):
        with pytest.raises(GranvitError, match=r"weights\.pkl.*no checkpoint of arrays"):
            stubbed_detectron2(content).annotate([page()])
    assert "was run" not in capsys.readouterr().out
    other = pickle.dumps({"model": {"backbone.weight": np.zeros(3)}})
    with pytest.raises(GranvitError, match=r"not the weights of this model.*'limit'.*'backbone\.weight'"):
        stubbed_detectron2(other).annotate([page()])
