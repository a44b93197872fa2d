"""Boxes that a source writes in another way than its row says: counted, stopped, and the right way named."""

from __future__ import annotations

import re

import pytest
from data_worlds import edit_coco, ingest, read_csv, spec, write_coco
from hypothesis import given
from hypothesis import strategies as st

from granvit.boxes import from_cxcywh, from_xywh, to_cxcywh, to_xywh
from granvit.data.records.shards import read_shard
from granvit.data.sources.box_formats import BOX_FORMATS
from granvit.errors import GranvitError

W, H = 600, 500  # of write_coco's images
XYWH = [[310.0, 220.0, 200.0, 160.0], [400.0, 300.0, 180.0, 150.0], [10.0, 20.0, 150.0, 160.0]]


def _written(box: list[float], form: str) -> list[float]:
    corners = from_xywh(box)
    shape = form.removesuffix("_relative")
    values = {"xyxy": corners, "xywh": box, "cxcywh": to_cxcywh(corners)}[shape]
    return [v / s for v, s in zip(values, (W, H, W, H), strict=True)] if form != shape else values


def _source(root, form, **changes):
    write_coco(root, images=10, boxes=3)

    def rewrite(content):
        for number, annotation in enumerate(content["annotations"]):
            annotation["bbox"] = _written(XYWH[number % 3], form)

    edit_coco(root, rewrite)
    return spec(root, **changes)


@pytest.mark.parametrize("form", BOX_FORMATS)
def test_boxes_are_read_as_the_row_says(tmp_path, form):
    source = _source(tmp_path / "raw", form, options=f"box_format={form}")
    samples = list(read_shard(ingest(source, tmp_path / "out", max_cut_share=0.0, max_reject_share=0.0)))
    assert len(samples) == 10
    for sample in samples:
        assert [region.box for region in sample.record.regions] == [
            pytest.approx(from_xywh(box), abs=0.01) for box in XYWH
        ]


@pytest.mark.parametrize("form", [form for form in BOX_FORMATS if form != "xywh"])
def test_a_source_of_boxes_written_in_another_way_stops_and_names_it(tmp_path, form):
    source = _source(tmp_path / "raw", form)
    with pytest.raises(GranvitError, match="set box_format=") as told:
        ingest(source, tmp_path / "out", max_cut_share=0.1, max_reject_share=0.1)
    named = re.search(r"set box_format=(\w+)", str(told.value))[1]
    assert named == form
    assert not list((tmp_path / "out" / "ingested").rglob("*.tar"))


def test_a_box_that_is_cut_is_kept_and_counted_but_not_for_a_rounding_error(tmp_path):
    root = write_coco(tmp_path / "raw", images=1, boxes=0)
    boxes = [[-20, 10, 100, 100], [500, 400, 102, 102], [-1, -1, 50, 50], [10, 10, 50, 50]]
    add = [{"image_id": 0, "category_id": 1, "bbox": box} for box in boxes]
    edit_coco(root, lambda content: content["annotations"].extend(add))
    tar = ingest(spec(root), tmp_path / "out")
    (sample,) = read_shard(tar)
    assert len(sample.record.regions) == 4
    rows = read_csv(tar.with_suffix(".rejects.csv"))
    assert [(row["what"], row["cause"], row["regions"]) for row in rows] == [("region", "box_cut", "0")]


def test_where_no_way_fits_better_none_is_named(tmp_path):
    root = write_coco(tmp_path / "raw", images=4, boxes=1)
    edit_coco(root, lambda c: [a.update(bbox=[-300, -300, 650, 550]) for a in c["annotations"]])
    with pytest.raises(
        GranvitError, match="4 of 4 boxes reach beyond.*No other way to read them fits better"
    ):
        ingest(spec(root), tmp_path / "out", max_cut_share=0.1)


@given(st.lists(st.integers(0, 400), min_size=4, max_size=4))
def test_centre_and_corner_forms_are_inverse(values):
    assert to_cxcywh(from_cxcywh(values)) == values
    assert to_xywh(from_xywh(values)) == values
