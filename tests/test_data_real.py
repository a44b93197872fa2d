"""The data chain on real photographs and scanned receipts; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_worlds import FOUND, REAL, image_bytes, ingest, needs_ocr, prepare, read_csv, spec

from granvit.config.data import FilterRules
from granvit.data.annotators.annotate import annotate_shard
from granvit.data.annotators.ocr import OcrEngine, OcrReader
from granvit.data.mixtures.mixture import Drawing
from granvit.data.records.filters import filter_shard
from granvit.data.records.images import decode_rgb
from granvit.data.records.pack import pack_shard
from granvit.data.records.records import read_records
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError


@pytest.mark.skipif(not (REAL / "coco128").is_dir(), reason="../shared/real/coco128 is not there")
def test_coco_photographs_go_from_folder_to_mixture(tmp_path):
    (index,) = prepare(spec(REAL / "coco128", name="coco128", captions="none"), tmp_path)
    rows = read_csv(tmp_path / "filtered/coco128/00000.counts.csv")
    counts = {(row["mode"], row["rule"]): row for row in rows}
    came_in = counts["sequence", "all"]
    assert (came_in["images_in"], came_in["regions_in"]) == ("128", "929")
    assert 0 < int(came_in["images_out"]) < 128
    Drawing([index], tmp_path / "m.parquet", tmp_path / "m.json", 0.0).regions(["bbox2caption"], None, 1.0)
    rows = pq.read_table(tmp_path / "m.parquet").to_pylist()
    assert len(rows) == int(came_in["images_out"])
    assert sum(len(row["qa"]) for row in rows) == int(came_in["regions_out"])
    for row in rows[:10]:
        image = decode_rgb(read_image_bytes(row["shard"], row["offset"], row["size"]))
        assert image.size == (row["width"], row["height"])


@pytest.mark.slow
@needs_ocr
@pytest.mark.skipif(not (REAL / "sroie").is_dir(), reason="../shared/real/sroie is not there")
def test_receipts_are_read_by_paddleocr_where_people_saw_text(tmp_path):
    (tmp_path / "raw/images").mkdir(parents=True)
    names = ["000", "001", "004"]
    for name in names:
        (tmp_path / f"raw/images/{name}.jpg").write_bytes((REAL / f"sroie/img/{name}.jpg").read_bytes())
    how = {"data_type": "ocr", "adapter": "folder", "boxes": "ocr", "captions": "none", "text": "ocr"}
    tar = ingest(spec(tmp_path / "raw", name="SROIE", **how), tmp_path)
    reader = OcrReader(OcrEngine(tmp_path / "models"), min_score=0.5)
    annotate_shard(tar, tmp_path / "a.jsonl", tmp_path / "r.csv", tmp_path / "c.csv", [reader])
    records = {Path(record.provenance["file"]).name: record for record in read_records(tmp_path / "a.jsonl")}
    assert len(records) == 3
    for name in names:
        truth = _human_lines(REAL / f"sroie/box/{name}.csv")
        read = records[f"{name}.jpg"].regions
        found = sum(
            any(_same(text, region.text) and _holds(region.box, centre) for region in read)
            for text, centre in truth
        )
        assert found > 0.6 * len(truth)
        assert all(region.score >= 0.5 for region in read)
    rules = FilterRules(min_image_side=400, box_aspect=None, min_box_area=None)
    filter_shard(tmp_path / "a.jsonl", tmp_path / "f.jsonl", tmp_path / "f.csv", rules)
    pack_shard(tar, tmp_path / "f.jsonl", tmp_path / "p.tar", tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 3


def _human_lines(path):
    lines = [line.split(",", 8) for line in path.read_text().splitlines() if line.strip()]
    return [
        (line[8], ((int(line[0]) + int(line[4])) / 2, (int(line[1]) + int(line[5])) / 2)) for line in lines
    ]


def _same(a, b):
    plain = ["".join(c for c in text.lower() if c.isalnum()) for text in (a, b)]
    return plain[0] == plain[1] or (plain[0] and plain[0] in plain[1])


def _holds(box, point):
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def test_pack_refuses_records_of_another_shard(tmp_path):
    tars = {}
    for name in ("one", "two"):
        images = tmp_path / name / "images"
        images.mkdir(parents=True)
        (images / f"{name}.jpg").write_bytes(image_bytes(name))
        tars[name] = ingest(spec(tmp_path / name, adapter="folder", **FOUND), tmp_path / f"{name}-out")
    annotate_shard(tars["two"], tmp_path / "two.jsonl", tmp_path / "r.csv", tmp_path / "c.csv", [])
    with pytest.raises(GranvitError, match=r"two\.jsonl.*World/two\.jpg.*one-out"):
        pack_shard(tars["one"], tmp_path / "two.jsonl", tmp_path / "p.tar", tmp_path / "p.parquet")
    assert not (tmp_path / "p.tar").exists() and not (tmp_path / "p.parquet").exists()
