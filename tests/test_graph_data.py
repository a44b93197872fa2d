"""From a user's folder to shards with one row of a sources file and one command, on real photographs and
receipts; every number is counted once more here, without the package."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import call, copy_repository
from data_worlds import REAL, needs_ocr, read_csv
from PIL import Image

pytestmark = pytest.mark.graph

COLUMNS = [
    "name",
    "data_type",
    "group",
    "use",
    "adapter",
    "path",
    "boxes",
    "captions",
    "text",
    "shards",
    "options",
]
needs = {
    name: pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"../shared/real/{name} is not there")
    for name in ("coco128", "sroie")
}


def build(folder: Path, **row: str) -> dict[str, list[dict]]:
    """Run the one command on a sources file of one row; the reports, and the index's rows under `index`."""
    copy_repository(folder)
    defaults = {"name": "Mine", "group": "Mine", "use": "pretrain", "captions": "none", "shards": "2"}
    row = {**defaults, **row}
    lines = ["\t".join(COLUMNS), "\t".join(row.get(column, "") for column in COLUMNS)]
    (folder / "mine.tsv").write_text("\n".join(lines) + "\n")
    call(folder, "snakemake", "shards", "--config", "data={sources: mine.tsv}")
    made = folder / "results/mini/data"
    reports = {name: read_csv(made / f"{name}.csv") for name in ("filter_report", "rejects")}
    shards = sorted((made / "packed/Mine").glob("*.parquet"))
    assert len(shards) == 2
    return reports | {"index": [row for shard in shards for row in pq.read_table(shard).to_pylist()]}


def sequence(reports: dict) -> dict[str, tuple[int, int, int, int]]:
    """rule -> images in, images out, regions in, regions out, each rule on what those before it left."""
    columns = ("images_in", "images_out", "regions_in", "regions_out")
    return {
        row["rule"]: tuple(int(row[column]) for column in columns)
        for row in reports["filter_report"]
        if (row["source"], row["mode"]) == ("Mine", "sequence")
    }


def sift(images: dict[str, tuple[int, int, list]], rules: dict) -> dict[str, tuple[int, int, int, int]]:
    """The paper's rules of Sec. 3, one after the other; images: name -> width, height, boxes."""
    counts = {}
    for name, (keeps_image, keeps_box) in rules.items():
        before = (len(images), sum(len(boxes) for *_, boxes in images.values()))
        images = {
            key: (width, height, [box for box in boxes if keeps_box(*box)])
            for key, (width, height, boxes) in images.items()
            if keeps_image(width, height, boxes)
        }
        after = (len(images), sum(len(boxes) for *_, boxes in images.values()))
        counts[name] = (before[0], after[0], before[1], after[1])
    return counts


def any_image(*_):
    return True


def any_box(*_):
    return True


def in_thirds(a: float, b: float) -> bool:
    return a <= 3 * b and b <= 3 * a


IMAGE_RULES = {
    "image_side": (lambda w, h, boxes: min(w, h) > 448, any_box),
    "image_aspect": (lambda w, h, boxes: in_thirds(w, h), any_box),
}
BOX_RULES = {
    "box_aspect": (any_image, lambda x1, y1, x2, y2: in_thirds(x2 - x1, y2 - y1)),
    "box_area": (any_image, lambda x1, y1, x2, y2: (x2 - x1) * (y2 - y1) > 100 * 100),
}
LAST_RULE = {"regions": (lambda w, h, boxes: bool(boxes), any_box)}


@needs["coco128"]
def test_coco_photographs_become_shards_whose_numbers_a_recount_confirms(tmp_path):
    root = REAL / "coco128"
    reports = build(
        tmp_path / "clone", data_type="natural", adapter="coco", path=str(root), boxes="given", text="given"
    )  # fmt: skip
    content = json.loads((root / "instances.json").read_text())
    images = {}
    for image in content["images"]:
        with Image.open(root / "images" / image["file_name"]) as opened:
            images[image["id"]] = (*opened.size, [])
    for annotation in content["annotations"]:
        width, height, boxes = images[annotation["image_id"]]
        x, y, w, h = annotation["bbox"]
        boxes.append([max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)])
    counted = sift(images, IMAGE_RULES | BOX_RULES | LAST_RULE)
    stated = sequence(reports)
    assert stated["ingest"] == (128, 128, 929, 929) and reports["rejects"] == []
    assert {rule: stated[rule] for rule in counted} == counted
    assert len(reports["index"]) == counted["regions"][1]
    assert sum(len(row["regions"]) for row in reports["index"]) == counted["regions"][3]


@needs["sroie"]
def test_receipts_with_line_boxes_become_shards_whose_numbers_a_recount_confirms(tmp_path):
    root = REAL / "sroie"
    reports = build(
        tmp_path / "clone", data_type="ocr", adapter="line_boxes", path=str(root), boxes="given", text="given"
    )  # fmt: skip
    images = {}
    for file in sorted((root / "img").iterdir()):
        with Image.open(file) as opened:
            width, height = opened.size
        lines = (root / "box" / f"{file.stem}.csv").read_text(encoding="utf-8").splitlines()
        boxes = [[int(value) for value in line.split(",", 8)[:8]] for line in lines if line.strip()]
        images[file.stem] = (
            width,
            height,
            [[min(b[::2]), min(b[1::2]), max(b[::2]), max(b[1::2])] for b in boxes],
        )
    regions = sum(len(boxes) for *_, boxes in images.values())
    stated, rejects = sequence(reports), Counter()
    for row in reports["rejects"]:
        rejects[row["what"]] += int(row["count"])
    assert stated["ingest"] == (50, 50, regions, regions - rejects["region"]) and not rejects["image"]
    counted = sift(images, IMAGE_RULES | LAST_RULE)
    assert {rule: stated[rule][:2] for rule in counted} == {rule: counted[rule][:2] for rule in counted}
    kept = sum(len(row["regions"]) for row in reports["index"])
    assert kept == stated["regions"][3] and counted["regions"][3] - kept <= rejects["region"]


@needs_ocr
@needs["sroie"]
def test_receipts_read_by_paddleocr_become_shards_whose_numbers_a_recount_confirms(tmp_path):
    images = tmp_path / "pages/images"
    images.mkdir(parents=True)
    chosen = sorted((REAL / "sroie/img").iterdir())[:4]
    for file in chosen:
        os.symlink(file, images / file.name)
    row = {"data_type": "ocr", "adapter": "folder", "boxes": "ocr", "text": "ocr"}
    reports = build(tmp_path / "clone", path=str(images.parent), **row)
    found, sure = count_lines(chosen, tmp_path / "clone/results/mini/data/ocr_models")
    stated = sequence(reports)
    assert stated["ingest"] == (4, 4, 0, 0)
    assert stated["ocr_score"] == (4, 4, found, sure)
    assert sum(len(row["regions"]) for row in reports["index"]) == stated["regions"][3]


def count_lines(files: list[Path], models: Path) -> tuple[int, int]:
    """Lines that PaddleOCR, called by itself, finds on the pages, and how many it reads with 0.5 or more."""
    import numpy as np
    from paddleocr import PaddleOCR

    detection, recognition = "PP-OCRv6_small_det", "PP-OCRv6_small_rec"
    reader = PaddleOCR(
        text_detection_model_name=detection, text_detection_model_dir=str(models / detection),
        text_recognition_model_name=recognition, text_recognition_model_dir=str(models / recognition),
        text_recognition_batch_size=1, text_det_limit_side_len=320, text_det_limit_type="max",
        use_doc_orientation_classify=False, use_doc_unwarping=False, use_textline_orientation=False,
        device="cpu", engine="onnxruntime",
    )  # fmt: skip
    found = sure = 0
    for file in files:
        with Image.open(file) as opened:
            pixels = np.asarray(opened.convert("RGB"))[:, :, ::-1]
        (result,) = reader.predict(np.ascontiguousarray(pixels))
        scores = result["rec_scores"]
        found, sure = found + len(scores), sure + sum(score >= 0.5 for score in scores)
    return found, sure


def test_row_without_data_stops_with_the_row_the_path_and_the_command_that_fetches_it(tmp_path):
    folder = copy_repository(tmp_path)
    call(folder, "snakemake", "-n", "shards", "--config", "scale=paper")
    target = "results/paper/data/ingested/SROIE/00000.tar"
    output = call(folder, "snakemake", target, "--config", "scale=paper", fails=True)
    assert "Traceback" not in output
    rows = read_csv(folder / "config/sources.tsv", delimiter="\t")
    row = next(row for row in rows if row["name"] == "SROIE")
    assert all(text in output for text in ("'SROIE'", "config/sources.tsv", "data/SROIE", row["fetch"])), (
        output
    )
