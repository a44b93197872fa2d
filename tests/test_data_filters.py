"""The paper's filters at their bounds, and how each rule is counted."""

from __future__ import annotations

import pytest
from data_worlds import read_csv

from granvit.config.data import FilterRules
from granvit.data.records.filters import filter_shard, let_in, what_passes
from granvit.data.records.records import Record, Region, read_records, write_records
from granvit.data.records.shards import Sample, ShardWriter
from granvit.errors import GranvitError

OCR_RULES = FilterRules(box_rules=False)


def _record(key="a", width=600, height=500, boxes=((0, 0, 200, 200),), data_type="natural", source="S"):
    return Record(
        key, source, data_type, width, height, regions=[Region(list(map(float, box)), "t") for box in boxes]
    )


def _filter(tmp_path, records, rules):
    write_records(tmp_path / "in.jsonl", records)
    filter_shard(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "out.csv", rules)
    counts = {
        (row["mode"], row["rule"]): tuple(
            int(row[c]) for c in ("images_in", "images_out", "regions_in", "regions_out")
        )
        for row in read_csv(tmp_path / "out.csv")
    }
    return list(read_records(tmp_path / "out.jsonl")), counts


@pytest.mark.parametrize(
    ("width", "height", "passes"),
    [
        (449, 449, True),
        (448, 600, False),
        (600, 448, False),
        (1347, 449, True),
        (1348, 449, False),
        (449, 1347, True),
    ],
)
def test_image_bounds_are_the_papers(tmp_path, width, height, passes):
    kept, _ = _filter(tmp_path, [_record(width=width, height=height)], FilterRules())
    assert bool(kept) == passes


@pytest.mark.parametrize(
    ("box", "passes"),
    [
        ((0, 0, 100, 100), False),  # area must be greater than 100^2
        ((0, 0, 100, 101), True),
        ((0, 0, 300, 100), True),
        ((0, 0, 301, 100), False),
        ((0, 0, 100, 300), True),
        ((0, 0, 100, 300.5), False),
        ((300, 300, 420, 420), True),  # wherever it lies
        ((100, 300, 401, 400), False),
        ((300, 100, 400, 400.5), False),
    ],
)
def test_box_bounds_are_the_papers(tmp_path, box, passes):
    kept, _ = _filter(tmp_path, [_record(boxes=[box, (0, 0, 200, 200)])], FilterRules())
    assert len(kept[0].regions) == 1 + passes


def test_image_without_a_box_left_is_dropped(tmp_path):
    kept, counts = _filter(tmp_path, [_record(boxes=[(0, 0, 10, 10)]), _record("b", boxes=[])], FilterRules())
    assert kept == []
    assert counts["sequence", "box_area"] == (2, 2, 1, 0)
    assert counts["alone", "regions"] == (2, 1, 1, 1)
    assert counts["sequence", "all"] == (2, 0, 1, 0)


def test_text_lines_keep_thin_boxes_but_not_empty_pages(tmp_path):
    pages = [_record("a", boxes=[(0, 0, 300, 20)], data_type="ocr"), _record("b", boxes=[], data_type="ocr")]
    assert [record.key for record in _filter(tmp_path, pages, OCR_RULES)[0]] == ["a"]
    assert _filter(tmp_path, pages, FilterRules())[0] == []


def test_rules_that_are_switched_off_drop_nothing_but_are_counted(tmp_path):
    boxes = [(0, 0, 300, 20), (0, 0, 400, 300), (0, 0, 30, 20)]
    kept, counts = _filter(tmp_path, [_record(boxes=boxes, data_type="ocr")], OCR_RULES)
    assert [len(record.regions) for record in kept] == [3]
    assert counts["off", "box_aspect"] == (1, 1, 3, 2)
    assert counts["off", "box_area"] == (1, 1, 3, 1)
    assert not {("alone", "box_area"), ("sequence", "box_area")} & counts.keys()


def test_instruction_data_passes_unfiltered(tmp_path):
    small = _record(width=50, height=400, boxes=[], data_type="instruction")
    kept, counts = _filter(tmp_path, [small], FilterRules())
    assert kept == [small]
    assert counts == {("sequence", "all"): (1, 1, 0, 0)}


def test_each_rule_is_counted_alone_and_in_sequence(tmp_path):
    records = [
        _record("small and thin", width=448, boxes=[(0, 0, 400, 100)]),
        _record("thin", boxes=[(0, 0, 400, 100), (0, 0, 200, 200)]),
    ]
    _, counts = _filter(tmp_path, records, FilterRules())
    assert counts["alone", "image_side"] == (2, 1, 3, 2)
    assert counts["alone", "box_aspect"] == (2, 2, 3, 1)
    assert counts["sequence", "box_aspect"] == (1, 1, 2, 1)
    assert counts["sequence", "all"] == (2, 1, 3, 1)


def test_records_that_no_model_annotates_are_those_of_the_ingested_tar(tmp_path):
    records = [_record("a", boxes=[(0, 0, 300, 300), (0, 0, 400, 400)]), _record("b", boxes=[(0, 0, 10, 10)])]
    records[0].regions[0].text = " "
    with ShardWriter(tmp_path / "in.tar") as tar:
        for record in records:
            tar.write(Sample(record, b"", "jpg"))
    filter_shard(tmp_path / "in.tar", tmp_path / "out.jsonl", tmp_path / "counts.csv", FilterRules())
    (kept,) = read_records(tmp_path / "out.jsonl")
    assert (kept.key, [region.box for region in kept.regions]) == ("a", [[0, 0, 400, 400]])
    counts = (tmp_path / "counts.csv").read_text()
    assert "sequence,no_region_text,2,2,3,2\n" in counts and "sequence,annotate,2,2,3,2\n" in counts


def test_an_annotator_sees_the_images_that_the_rules_on_images_let_in():
    assert let_in(_record(boxes=[]), FilterRules())
    assert not let_in(_record(width=448), FilterRules()) and not let_in(_record(height=200), FilterRules())


def test_what_passes_of_a_record_is_what_filtering_its_shard_writes(tmp_path):
    records = [
        _record("whole"),
        _record("part", boxes=[(0, 0, 10, 10), (0, 0, 200, 200)]),
        _record("none", boxes=[(0, 0, 10, 10)]),
        _record("small", width=50),
        _record("chat", width=50, boxes=[], data_type="instruction"),
    ]
    kept, _ = _filter(tmp_path, records, FilterRules())
    passing = [what_passes(record, FilterRules()) for record in records]
    assert [record for record in passing if record] == kept
    assert [record.key for record in kept] == ["whole", "part", "chat"]


def test_the_images_bounds_can_be_switched_off_one_by_one(tmp_path):
    small, long = _record("small", 300, 300), _record("long", 2000, 500)
    for rules, keys in (
        (FilterRules(min_image_side=None), ["small"]),
        (FilterRules(image_aspect=None), ["long"]),
    ):
        assert [record.key for record in _filter(tmp_path, [small, long], rules)[0]] == keys


def test_the_bounds_on_boxes_can_be_switched_off_one_by_one(tmp_path):
    record = _record(boxes=[(0, 0, 50, 50), (0, 0, 500, 50)])
    for rules, boxes in (
        (FilterRules(min_box_area=None), [[0, 0, 50, 50]]),
        (FilterRules(box_aspect=None), [[0, 0, 500, 50]]),
    ):
        (kept,) = _filter(tmp_path, [record], rules)[0]
        assert [region.box for region in kept.regions] == boxes


def test_counts_are_sorted_by_source_and_mode_with_the_rules_in_their_order(tmp_path):
    _filter(tmp_path, [_record("b", source="Z"), _record("a", source="A")], FilterRules())
    rows = [(row["source"], row["mode"]) for row in read_csv(tmp_path / "out.csv")]
    assert rows == sorted(rows) and {source for source, _ in rows} == {"A", "Z"}
    order = [
        r["rule"] for r in read_csv(tmp_path / "out.csv") if (r["source"], r["mode"]) == ("A", "sequence")
    ]
    assert order == ["image_side", "image_aspect", "box_aspect", "box_area", "regions", "all"]


def test_a_region_that_passes_without_having_been_described_is_an_error(tmp_path):
    record = _record("S__a=20b")
    record.regions[0].text = None
    with pytest.raises(GranvitError, match=r"in\.jsonl: S/a b: the region .* has no text.*stricter"):
        _filter(tmp_path, [record], FilterRules())
