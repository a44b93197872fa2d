"""From a user's folder to shards with one row of a sources file and one command, on real photographs and
receipts; every number is counted once more here, without the package."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import call, copy_repository
from data_worlds import REAL, SOURCE_COLUMNS, needs_ocr, read_csv
from PIL import Image

pytestmark = pytest.mark.graph

needs = {
    name: pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"../shared/real/{name} is not there")
    for name in ("coco128", "sroie")
}


def build(folder: Path, **row: str) -> dict[str, list[dict]]:
    """Run the one command on a sources file of one row; the reports, and the index's rows under `index`."""
    if not folder.exists():
        copy_repository(folder)
    defaults = {"name": "Mine", "group": "Mine", "use": "pretrain", "captions": "none", "shards": "2"}
    row = {**defaults, **row}
    lines = ["\t".join(SOURCE_COLUMNS), "\t".join(row.get(column, "") for column in SOURCE_COLUMNS)]
    (folder / "mine.tsv").write_text("\n".join(lines) + "\n")
    call(folder, "snakemake", "shards", "--config", "data={sources: mine.tsv}")
    made = folder / "results/mini/data"
    reports = {name: read_csv(made / f"{name}.csv") for name in ("filter_report", "rejects")}
    shards = sorted((made / "packed/Mine").glob("*.parquet"))
    tars = list((made / "packed/Mine").glob("*.tar"))
    assert len(shards) == len(tars) == int(row["shards"])
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
    row = {"data_type": "natural", "adapter": "coco", "path": str(root), "boxes": "given", "text": "given"}
    build(tmp_path / "clone", **row, shards="3")
    reports = build(tmp_path / "clone", **row)  # ... of which the third has to go
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
    counted = sift(images, IMAGE_RULES | LAST_RULE)
    stated = sequence(reports)
    assert stated["ingest"] == (50, 50, regions, regions) and reports["rejects"] == []
    assert {rule: stated[rule] for rule in counted} == counted
    assert len(reports["index"]) == counted["regions"][1]
    assert sum(len(row["regions"]) for row in reports["index"]) == counted["regions"][3]


@needs_ocr
@needs["sroie"]
def test_receipts_read_by_paddleocr_become_shards_whose_numbers_a_recount_confirms(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    chosen = sorted((REAL / "sroie/img").iterdir())[:4]
    for file in chosen:
        os.symlink(file, pages / file.name)
    row = {"data_type": "ocr", "adapter": "folder", "boxes": "ocr", "text": "ocr"}
    journal = copy_repository(tmp_path / "clone") / "state/mini/annotate/Mine/00000-0f0f0f0f.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("of a run with other settings, which was killed")
    reports = build(tmp_path / "clone", path=str(pages), **row)
    assert not list(journal.parent.iterdir())
    passing = [file for file in chosen if all(rule(*size_of(file), []) for rule, _ in IMAGE_RULES.values())]
    assert 0 < len(passing) < 4  # one is too small, and not read
    found, sure = count_lines(passing, tmp_path / "clone/results/mini/data/ocr_models")
    stated = sequence(reports)
    assert stated["ingest"] == (4, 4, 0, 0)
    assert stated["ocr_score"] == (4, 4, found, sure)
    assert sum(len(row["regions"]) for row in reports["index"]) == stated["regions"][3]
    # ... and these are the lines that people saw there (the whole folder: benchmarks/ocr_agreement.py).
    read = {row["key"]: row["regions"] for row in reports["index"]}
    pairs = [(file, read.get(f"Mine__{file.stem}=2Ejpg")) for file in chosen]
    lines = [(line, regions) for file, regions in pairs if regions for line in people_saw(file)]
    agreed = sum(any(agrees(line, region) for region in regions) for line, regions in lines)
    assert len(lines) > 50 and agreed >= 0.75 * len(lines)


def size_of(file: Path) -> tuple[int, int]:
    with Image.open(file) as opened:
        return opened.size


def people_saw(image: Path) -> list[tuple[str, list[int]]]:
    """Texts and upright boxes of the lines that people wrote down."""
    file = image.parents[1] / "box" / f"{image.stem}.csv"
    rows = [line.split(",", 8) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    corners = [(row[8], [int(value) for value in row[:8]]) for row in rows]
    return [(text, [min(b[::2]), min(b[1::2]), max(b[::2]), max(b[1::2])]) for text, b in corners]


def agrees(line: tuple[str, list[int]], region: dict) -> bool:
    """An IoU of a half, and texts that differ in a fifth at most (SROIE's people wrote capitals only)."""
    text, a, b = *line, region["box"]
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    alike = difflib.SequenceMatcher(None, text.upper(), region["text"].upper(), autojunk=False).ratio()
    return shared >= 0.5 * both and alike >= 0.8


def count_lines(files: list[Path], models: Path) -> tuple[int, int]:
    """Lines that PaddleOCR, called by itself, finds on the pages, and how many it reads with 0.5 or more."""
    import numpy as np
    from paddleocr import PaddleOCR

    detection, recognition = "PP-OCRv6_small_det", "PP-OCRv6_small_rec"
    reader = PaddleOCR(
        text_detection_model_name=detection, text_detection_model_dir=str(models / detection),
        text_recognition_model_name=recognition, text_recognition_model_dir=str(models / recognition),
        text_recognition_batch_size=1, use_doc_orientation_classify=False, use_doc_unwarping=False,
        use_textline_orientation=False, device="cpu", engine="onnxruntime",
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
