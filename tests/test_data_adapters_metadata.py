"""Hugging Face's image folders, and other JSON beside images that says its regions as they do."""

from __future__ import annotations

import csv
import json
import sys

import pytest
from data_worlds import LABELLED_HALF as HALF
from data_worlds import LABELLED_SIZE, ingest_labelled, read_source, write_file, write_labelled

from granvit.errors import GranvitError

W, H = LABELLED_SIZE
BOXES = [[150, 125, 300, 250], [0, 0, 60, 50]]
OBJECTS = {
    "of lists": {"bbox": BOXES, "categories": ["dog", "cat"], "id": [1, 2]},
    "in a list": [{"bbox": BOXES[0], "category": "dog"}, {"bbox": BOXES[1], "category": "cat"}],
}


@pytest.mark.parametrize("layout", OBJECTS)
@pytest.mark.parametrize("caption", ["text", "caption"])
def test_metadata_jsonl_is_read_in_both_layouts_of_objects(tmp_path, layout, caption):
    root = write_labelled(tmp_path / "raw", "train/a.jpg", "train/alone.jpg", "b.jpg")
    entry = {"file_name": "a.jpg", caption: "a view", "objects": OBJECTS[layout], "width": W, "height": H}
    write_file(root / "train/metadata.jsonl", json.dumps(entry) + "\n")
    write_file(root / "metadata.jsonl", json.dumps({"file_name": "./b.jpg"}) + "\n")
    regions, rejects = ingest_labelled(root, "metadata_jsonl", captions="given", max_reject_share=0.0)
    boxes = [(HALF, "dog"), ([0.0, 0.0, 60.0, 50.0], "cat")]
    assert regions == {"b.jpg": [], "train/a.jpg": boxes, "train/alone.jpg": []}
    assert rejects == []
    assert [item.caption for item in read_source("metadata_jsonl", root) if item.caption] == ["a view"]


def test_metadata_csv_is_read_where_there_is_no_jsonl(tmp_path):
    root = write_labelled(tmp_path, "train/a.jpg", "b.jpg")
    write_file(root / "train/metadata.csv", 'file_name,text\na.jpg,"a view, in two\nlines"\nnone.jpg\n')
    write_file(root / "metadata.jsonl", json.dumps({"file_name": "b.jpg", "text": "another"}))
    write_file(root / "metadata.csv", "file_name,text\nb.jpg,not read\n")
    items = [item for item in read_source("metadata_jsonl", root) if not item.joins]
    assert [(item.place.file, item.caption) for item in items] == [
        ("b.jpg", "another"),
        ("train/a.jpg", "a view, in two\nlines"),
        ("train/none.jpg", None),
    ]


@pytest.mark.parametrize("limit", [131_072, sys.maxsize])  # that of the process: reading benchmarks lifts it
def test_a_field_without_an_end_is_an_error_whatever_the_process_has_read_before(tmp_path, limit):
    root = write_labelled(tmp_path, "train/a.jpg")
    write_file(root / "train/metadata.csv", "file_name,text\na.jpg," + "x" * 200_000)
    before = csv.field_size_limit(limit)
    try:
        with pytest.raises(GranvitError, match=r"train/metadata\.csv, behind line \d: no CSV \(field larger"):
            read_source("metadata_jsonl", root)
    finally:
        csv.field_size_limit(before)


def test_json_beside_an_image_may_hold_an_object_of_lists(tmp_path):
    lists = {"box": [[1, 2, 3, 4], [5, 6, 7, 8]], "text": ["one", "two"], "score": [0.5, 1.0]}
    write_file(write_labelled(tmp_path, "a.jpg") / "a.json", {"regions": lists})
    (item,) = read_source("umg", tmp_path)
    assert [vars(region) for region in item.regions] == [
        {"box": [1, 2, 3, 4], "text": "one", "score": 0.5},
        {"box": [5, 6, 7, 8], "text": "two", "score": 1.0},
    ]


@pytest.mark.parametrize("layout", OBJECTS)
def test_categories_that_are_numbers_need_names(tmp_path, layout):
    root = write_labelled(tmp_path / "raw", "a.jpg")
    text = json.dumps({"file_name": "a.jpg", "objects": OBJECTS[layout]})
    text = text.replace('"dog"', "1").replace('"cat"', "5")
    write_file(root / "metadata.jsonl", "\n" + text)
    with pytest.raises(GranvitError, match=r"metadata\.jsonl, line 2: 'categor\w+' holds numbers.*`classes`"):
        read_source("metadata_jsonl", root)
    write_file(root / "names.txt", "cat\ndog\n")
    regions, rejects = ingest_labelled(root, "metadata_jsonl", "classes=names.txt")
    assert regions == {"a.jpg": [(HALF, "dog")]}
    assert rejects == [("a.jpg", "unknown_category", "1")]


def test_what_is_wrong_in_metadata_jsonl_is_counted_by_cause_with_the_path(tmp_path):
    root = write_labelled(tmp_path / "raw", *(f"{name}.jpg" for name in "abcd"))
    entries = [
        {"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]] * 2, "categories": ["one"]}},
        {"file_name": "b.jpg", "objects": {"bbox": [[1, 2, 3], [1, 1, 9, 9]], "categories": ["a", None]}},
        {"file_name": "c.jpg", "objects": 5},
        {"file_name": "none.jpg", "text": "lost"},
        {"file_name": "a.jpg", "text": "again"},
        {"file_name": "../a.jpg"},
        {"text": "no image"},
    ]
    write_file(root / "metadata.jsonl", "\n".join([*map(json.dumps, entries), "{"]))
    regions, rejects = ingest_labelled(root, "metadata_jsonl", captions="given")
    assert regions == {f"{name}.jpg": [] for name in "abcd"}
    assert rejects == [
        ("../a.jpg", "path_outside_source", "0"),
        ("a.jpg", "duplicate_id", "0"),
        *[("a.jpg", "unpaired_text", "1")] * 2,
        ("b.jpg", "bad_box", "1"),
        ("b.jpg", "no_text", "1"),
        ("c.jpg", "bad_regions", "1"),
        ("metadata.jsonl/line/7", "no_image", "0"),
        ("metadata.jsonl: line 8", "broken_annotations", "0"),
        ("none.jpg", "missing_image", "0"),
    ]
