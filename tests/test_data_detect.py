"""The detector: boxes of the image as shown, the same whatever company an image is in."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from granvit.boxes import iou
from granvit.config.data import DetectorSettings, FilterRules
from granvit.data.annotators.detect import Detector, nms
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Record, Region
from granvit.data.records.shards import Sample
from granvit.errors import GranvitError

SIZES = [(96, 64), (64, 96), (96, 64), (120, 40), (64, 96), (96, 64), (50, 50)]


def tiny_yolos():
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=[64, 96], num_detection_tokens=12, num_labels=3, initializer_range=0.2,
    )  # fmt: skip
    size = {"shortest_edge": 64, "longest_edge": 128}
    return YolosForObjectDetection(config), YolosImageProcessorPil(size=size)


def tiny_detr():
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=12, num_labels=3, init_std=0.5,
    )  # fmt: skip
    size = {"shortest_edge": 64, "longest_edge": 128}
    return DetrForObjectDetection(config), DetrImageProcessorPil(size=size)


def tiny_rt_detr():
    from transformers import (
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrImageProcessorPil,
        RTDetrResNetConfig,
    )

    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], d_model=16,
        encoder_ffn_dim=16, encoder_attention_heads=2, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_queries=12, num_labels=3,
        hidden_expansion=0.5, num_denoising=0,
    )  # fmt: skip
    return RTDetrForObjectDetection(config), RTDetrImageProcessorPil(size={"height": 64, "width": 64})


MODELS = {"yolos": tiny_yolos, "detr": tiny_detr, "rt_detr": tiny_rt_detr}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of tiny random detectors, as transformers saves them."""
    folder = tmp_path_factory.mktemp("detectors")
    for name, build in MODELS.items():
        torch.manual_seed(7)
        model, processor = build()
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


def noise(number: int, size) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def sample(number: int, image: bytes, regions=()) -> Sample:
    width, height = decode_rgb(image).size
    return Sample(Record(f"k{number}", "S", "natural", width, height, regions=list(regions)), image, "png")


def samples() -> list[Sample]:
    return [sample(i, noise(i, size)) for i, size in enumerate(SIZES)]


def detector(model, filters=None, **changes) -> Detector:
    limits = {"min_score": 0.0, "nms_iou": None, "max_boxes": 100, "batch_size": 8} | changes
    settings = DetectorSettings(backend="transformers", model=str(model), weights=None, **limits)
    return Detector(settings, "cpu", filters)


@pytest.mark.parametrize("name", MODELS)
def test_boxes_are_the_models_own_in_pixels_of_the_image_as_shown(saved, name):
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    image = Image.open(io.BytesIO(noise(3, (96, 64))))
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise: 64 wide, 96 high
    image.save(turned, "PNG", exif=exif)
    (found,) = detector(saved / name).annotate([sample(0, turned.getvalue())])

    model = AutoModelForObjectDetection.from_pretrained(saved / name).eval()
    processor = AutoImageProcessor.from_pretrained(saved / name)
    with torch.no_grad():
        seen = model(**processor(images=[image.rotate(-90, expand=True)], return_tensors="pt"))
    expected = []
    for x, y, w, h in seen.pred_boxes[0].tolist():
        corners = [(x - w / 2) * 64, (y - h / 2) * 96, (x + w / 2) * 64, (y + h / 2) * 96]
        expected.append([min(max(v, 0), limit) for v, limit in zip(corners, (64, 96, 64, 96), strict=True)])
    assert found.record.regions
    for region in found.record.regions:
        assert min(max(abs(a - b) for a, b in zip(region.box, e, strict=True)) for e in expected) < 0.01
        assert region.text == "" and 0 <= region.score <= 1


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_an_images_boxes_do_not_depend_on_its_batch(saved, name, batch_size):
    alone = [detector(saved / name, batch_size=1).annotate([one])[0] for one in samples()]
    together = detector(saved / name, batch_size=batch_size).annotate(samples())
    assert [one.record.key for one in together] == [f"k{i}" for i in range(len(SIZES))]
    for a, b in zip(alone, together, strict=True):
        assert len(a.record.regions) == len(b.record.regions) > 0
        for one, other in zip(a.record.regions, b.record.regions, strict=True):
            assert one.box == pytest.approx(other.box, abs=0.011)
            assert one.score == pytest.approx(other.score, abs=1.1e-4)
    assert len({str(one.record.regions) for one in together}) > 1  # the model does look at the image


def test_nothing_is_looked_for_in_images_that_the_filters_drop(saved):
    # A model's own resizing may leave nothing of a picture as thin as the first.
    rules = FilterRules(min_image_side=45, image_aspect=3.0)
    sizes = [(1000, 10), (96, 64), (40, 40), (96, 64)]
    mixed = [sample(i, noise(i, size), [Region([0, 0, 9, 9], "old")]) for i, size in enumerate(sizes)]
    found = detector(saved / "yolos", filters=rules).annotate(mixed)
    assert [one.record.key for one in found] == ["k0", "k1", "k2", "k3"]
    assert [len(one.record.regions) > 0 for one in found] == [False, True, False, True]
    assert all([reject.cause for reject in one.rejects] == ["replaced_by_annotator"] for one in found)
    assert found[1] == detector(saved / "yolos").annotate(mixed[1:2])[0]


def test_score_limit_and_count_keep_the_surest_boxes_surest_first(saved):
    everything = detector(saved / "detr").annotate(samples())
    scores = [[region.score for region in one.record.regions] for one in everything]
    assert all(len(s) > 4 and s == sorted(s, reverse=True) for s in scores)
    limit = scores[0][3]
    sure = detector(saved / "detr", min_score=limit - 1e-4, max_boxes=3).annotate(samples())
    for all_boxes, kept in zip(everything, sure, strict=True):
        expected = [r for r in all_boxes.record.regions if r.score >= limit - 1e-4][:3]
        assert kept.record.regions == expected
    assert len(sure[0].record.regions) == 3


def test_regions_that_are_replaced_are_counted(saved):
    given = [Region([0, 0, 9, 9], "old"), Region([1, 1, 9, 9], "older")]
    (found,) = detector(saved / "yolos").annotate([sample(0, noise(0, (96, 64)), given)])
    assert [(r.what, r.cause, r.regions) for r in found.rejects] == [
        ("region", "replaced_by_annotator", 1)
    ] * 2
    assert not {"old", "older"} & {region.text for region in found.record.regions}


def test_nms_keeps_what_a_plain_double_loop_keeps():
    draw, kept = random.Random(0), 0
    for _ in range(50):
        boxes, scores, labels = [], [], []
        for _ in range(30):
            x, y = draw.uniform(0, 60), draw.uniform(0, 60)
            boxes.append([x, y, x + draw.uniform(5, 40), y + draw.uniform(5, 40)])
            scores.append(draw.choice([0.1, 0.2, 0.3, 0.4, 0.5]))
            labels.append(draw.randrange(2))
        expected: list[int] = []
        for i in sorted(range(30), key=lambda i: -scores[i]):
            if all(labels[i] != labels[j] or iou(boxes[i], boxes[j]) <= 0.4 for j in expected):
                expected.append(i)
        found = nms(torch.tensor(boxes, dtype=torch.double), torch.tensor(scores), torch.tensor(labels), 0.4)
        assert found == expected
        kept += len(expected)
    assert 50 * 5 < kept < 50 * 29


def test_nms_leaves_out_boxes_that_are_no_numbers_and_can_be_switched_off():
    boxes = torch.tensor([[0, 0, 9, 9], [0, float("nan"), 9, 9], [0, 0, 9, 9], [0, 0, float("inf"), 9]])
    scores, labels = torch.tensor([0.1, 0.9, 0.8, 0.7]), torch.zeros(4)
    assert nms(boxes, scores, labels, 0.5) == [2]
    assert nms(boxes, scores, labels, None) == [2, 0]
    assert nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5) == []


def test_a_model_that_is_not_there_or_no_detector_says_what_to_name_instead(saved, tmp_path):
    from transformers import ViTConfig, ViTModel, YolosModel

    image = samples()[:1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(GranvitError, match=r"data\.detector\.model.*empty.*config\.json"):
        detector(tmp_path / "empty").annotate(image)
    ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path / "vit"
    )
    with pytest.raises(GranvitError, match=r"data\.detector\.model.*vit.*no object detection model"):
        detector(tmp_path / "vit").annotate(image)
    body = YolosModel.from_pretrained(saved / "yolos")
    body.save_pretrained(tmp_path / "body")
    MODELS["yolos"]()[1].save_pretrained(tmp_path / "body")
    with pytest.raises(GranvitError, match=r"body.*lacks.*not trained to detect"):
        detector(tmp_path / "body").annotate(image)
