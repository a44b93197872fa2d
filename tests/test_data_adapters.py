"""Annotation files beside loose images: each is read as published, and one bad entry costs itself only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_worlds import read_source, write_file

from granvit.data.sources.adapters import json_stream
from granvit.data.sources.adapters.json_stream import read_array, read_arrays
from granvit.errors import GranvitError


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def _regions(items) -> list[tuple[list[float], str]]:
    return [(region.box, region.text) for item in items for region in item.regions]


def _causes(items) -> list[tuple[str, str, int]]:
    return sorted((reject.what, reject.cause, reject.regions) for item in items for reject in item.rejects)


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
def test_elements_are_the_same_wherever_the_buffer_ends(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    elements = [1, -2.5e3, 'a \\ " é \U0001f600 \u2028', None, True, [], {}, {"a": [1, {"b": "]}"}]}, 12345]
    path = write_file(tmp_path / "a.json", " [\n" + " ,\t".join(json.dumps(e) for e in elements) + "]\n ")
    assert list(read_array(path)) == elements
    path = write_file(
        tmp_path / "o.json",
        {"info": {"x": [1]}, "a": [1, 2], "rest": [[3]], "b": [], "c": [{"k": 4}], "n": 5},
    )
    assert list(read_arrays(path, {"a", "b", "c"})) == [("a", 1), ("a", 2), ("c", {"k": 4})]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1, 2",
        "[1 2]",
        '[{"a": 1,}]',
        '["abc',
        "[1]]",
        "[" + "[" * 100_000,
        '{"a": [1]}',
        "[1" + "0" * 5000 + "]",
    ],
)
def test_a_file_that_is_no_json_array_is_told_with_its_place(tmp_path, content):
    path = write_file(tmp_path / "a.json", content)
    with pytest.raises(GranvitError, match=r"a\.json: not JSON as expected .*character [\d,]+.*again"):
        list(read_array(path))


def test_a_wrong_mark_early_in_a_large_file_is_told_without_reading_it_all(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK", 1000)
    path = write_file(tmp_path / "a.json", '[{"a": 1 "b": 2}, ' + '"x",' * 100_000)
    with open(path, encoding="utf-8") as file:
        monkeypatch.setattr(json_stream, "open_text", lambda path: file)
        with pytest.raises(GranvitError, match="character 9"):
            list(read_array(path))


def test_cocos_parts_may_come_in_any_order(tmp_path):
    parts = {
        "annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "images": [{"id": 7, "file_name": "7.jpg", "width": 640, "height": 480, "caption": " a view "}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    for order in (["annotations", "images", "categories"], ["categories", "images", "annotations"]):
        root = tmp_path / order[0]
        write_file(root / "instances.json", {name: parts[name] for name in order})
        image, annotation = sorted(read_source("coco", root), key=lambda item: item.joins)
        assert (image.original_id, image.place.file, image.stated_size, image.caption) == (
            "7",
            "images/7.jpg",
            (640, 480),
            "a view",
        )
        assert annotation.original_id == "7"
        assert _regions([annotation]) == [([1, 2, 4, 6], "cat")]
        assert annotation.regions[0].score == 0.5


def test_bad_coco_annotations_are_counted_by_cause(tmp_path):
    good = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    bad = [
        {"bbox": [1, 2, 3]},
        {"bbox": [0, 0, 1e999, 5]},
        {"bbox": None},
        {"iscrowd": 1},
        {"caption": "\udce9"},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}, {"file_name": "no id.jpg"}, "no image"],
        "annotations": [good, *(good | wrong for wrong in bad), good | {"bbox": [0, 0, 10**400, 1]}, 5],
        "categories": [{"id": 1, "name": "cat"}, {"id": [2]}, 3],
    }
    items = read_source("coco", write_file(tmp_path / "instances.json", content).parent)
    assert _regions(items) == [([0, 0, 9, 9], "cat")]
    assert _causes(items) == [
        *[("region", "bad_box", 1)] * 5,
        ("region", "broken_text", 1),
        ("region", "crowd_annotation", 1),
    ]
    assert [item.place.problem for item in items if not item.joins] == [None, "no_id", "no_id"]


def test_nan_and_broken_utf8_cost_their_annotation_only(tmp_path):
    path = tmp_path / "instances.json"
    text = b'{"images": [{"id": 1, "file_name": "1.jpg"}], "categories": [], "annotations": ['
    text += b'{"image_id": 1, "bbox": [NaN, 0, 1, 1], "caption": "a"},'
    text += b'{"image_id": 1, "bbox": [0, 0, 1, 1], "caption": "caf\xe9"},'
    text += b'{"image_id": 1, "bbox": [0, 0, 1, 1], "caption": "good"}]}'
    path.write_bytes(text)
    items = read_source("coco", tmp_path)
    assert _regions(items) == [([0, 0, 1, 1], "good")]
    assert _causes(items) == [("region", "bad_box", 1), ("region", "broken_text", 1)]


def test_coco_takes_other_names_of_files_and_refuses_other_files(tmp_path):
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}
    write_file(tmp_path / "annotations/instances_train.json", content)
    (item,) = read_source("coco", tmp_path, annotations="annotations/instances_train.json", images="train")
    assert item.place.file == "train/1.jpg"
    with pytest.raises(GranvitError, match=r"instances\.json: missing.*options"):
        read_source("coco", tmp_path)
    for wrong, told in (([], "object"), ({"images": {}}, "'images' must hold a list"), ({"a": []}, "COCO")):
        write_file(tmp_path / "instances.json", wrong)
        with pytest.raises(GranvitError, match=told):
            read_source("coco", tmp_path)


def test_a_folder_is_read_at_any_depth_through_links_and_not_in_circles(tmp_path):
    _touch(tmp_path, "images/b.JPG", "images/deep/a.png", "images/notes.txt", "elsewhere/c.webp")
    (tmp_path / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "images")
    (tmp_path / "images/self").symlink_to(tmp_path / "images")
    items = read_source("folder", tmp_path)
    assert sorted(item.original_id for item in items) == ["b.JPG", "deep/a.png", "linked/c.webp"]
    assert sorted(item.place.file for item in items)[0] == "images/b.JPG"


def test_visual_genome_is_read_as_published(tmp_path):
    _touch(tmp_path, "VG_100K/1.jpg", "VG_100K_2/2.jpg")
    region = {
        "region_id": 9,
        "width": 82,
        "height": 139,
        "image_id": 1,
        "phrase": "the clock",
        "x": 421,
        "y": 57,
    }
    bad = [{"x": 1, "y": 2, "width": 3, "phrase": "no height"}, "no region"]
    write_file(
        tmp_path / "region_descriptions.json",
        [{"id": 1, "regions": [region, *bad]}, {"id": 2, "regions": []}],
    )
    without = read_source("visual_genome", tmp_path)
    assert [(item.original_id, item.place.file) for item in without] == [
        ("1", "VG_100K/1.jpg"),
        ("2", "VG_100K_2/2.jpg"),
    ]
    data = [
        {"image_id": 1, "width": 800, "height": 600, "url": "u"},
        {"image_id": 3, "width": 5, "height": 5},
        {},
    ]
    write_file(tmp_path / "image_data.json", data)
    items = read_source("visual_genome", tmp_path)
    images, regions = [i for i in items if not i.joins], [i for i in items if i.joins]
    assert [(i.original_id, i.stated_size) for i in images[:2]] == [("1", (800, 600)), ("3", (5, 5))]
    assert (images[1].place.file, images[2].place.problem) == ("images/3.jpg", "no_id")
    assert _regions(regions) == [([421, 57, 503, 196], "the clock")]
    assert _causes(items) == [("region", "bad_box", 1)] * 2


def test_umgs_json_lies_beside_its_image_under_names_that_options_give(tmp_path):
    _touch(tmp_path, "00000/1.png", "00000/2.png", "00001/3.png")
    regions = [{"bbox": [1, 2, 3, 4], "tag": "dog"}, {"bbox": [1, 2], "tag": "x"}, {"bbox": [5, 6, 7, 8]}]
    write_file(
        tmp_path / "00000/1.json", {"meta": {"objects": regions}, "global": "a dog", "width": 9, "height": 9}
    )
    write_file(tmp_path / "00000/2.json", "{broken")
    write_file(tmp_path / "00001/4.json", {"meta": {"objects": []}})
    options = {
        "regions": "meta.objects",
        "box": "bbox",
        "box_format": "xywh",
        "text": "tag",
        "caption": "global",
    }
    items = {item.original_id: item for item in read_source("umg", tmp_path, **options)}
    assert list(items) == ["00000/1", "00000/2", "00001/3", "00001/4"]
    first = items["00000/1"]
    assert (first.place.file, first.caption, first.stated_size) == ("00000/1.png", "a dog", (9, 9))
    assert _regions([first]) == [([1, 2, 4, 6], "dog"), ([5, 6, 12, 14], "")]
    assert _causes([first]) == [("region", "bad_box", 1)]
    assert (items["00000/2"].place.problem, items["00001/4"].place) == ("broken_annotations", None)
    assert items["00001/3"].regions == []


def test_umgs_boxes_may_stand_in_one_file_of_json_lines(tmp_path):
    good = {"image": "a/1.jpg", "regions": [{"box": [0, 0, 5, 5], "text": "x", "score": 0.9}], "caption": "c"}
    lines = [json.dumps(good), "", "{broken", json.dumps({"regions": []}), "[1]"]
    write_file(tmp_path / "boxes.jsonl", "\n".join(lines))
    items = read_source("umg", tmp_path, annotations="boxes.jsonl")
    assert (items[0].original_id, items[0].place.file, items[0].regions[0].score) == (
        "a/1.jpg",
        "images/a/1.jpg",
        0.9,
    )
    assert [item.original_id for item in items[1:]] == ["line/3", "line/4", "line/5"]
    assert [item.place and item.place.problem for item in items[1:]] == [
        "broken_annotations",
        None,
        "broken_annotations",
    ]


def test_line_boxes_keep_commas_in_the_text_and_stand_upright(tmp_path):
    _touch(tmp_path, "img/r.jpg", "img/bare.jpg")
    lines = [
        "10,20,110,30,108,50,8,40,TOTAL, RM 9,50\r",
        "",
        "1,2,3",
        "1,2,3,4,5,6,7,x,bad",
        "1,2,3,4,5,6,7,inf,b",
    ]
    write_file(tmp_path / "box/r.csv", "\ufeff" + "\n".join([*lines, "0,0,9,0,9,9,0,9, "]))
    write_file(tmp_path / "box/lost.csv", "0,0,9,0,9,9,0,9,gone")
    items = read_source("line_boxes", tmp_path)
    assert sorted((i.original_id, i.joins) for i in items) == [
        ("bare", False),
        ("lost", True),
        ("r", False),
        ("r", True),
    ]
    lines = next(item for item in items if item.joins and item.original_id == "r")
    assert _regions([lines]) == [([8, 20, 110, 50], "TOTAL, RM 9,50"), ([0, 0, 9, 9], "")]
    assert _causes([lines]) == [("region", "bad_box", 1)] * 3


def test_line_boxes_of_two_corners_and_other_folders(tmp_path):
    _touch(tmp_path, "images/r.jpg")
    write_file(tmp_path / "gt/r.txt", "1,2,3,4,a, b")
    items = read_source("line_boxes", tmp_path, images="images", boxes="gt", points="2")
    assert _regions(items) == [([1, 2, 3, 4], "a, b")]
    for options, told in (
        ({"boxes": "none"}, "no such folder"),
        ({"points": "3", "boxes": "gt"}, "expected 2 or 4"),
    ):
        with pytest.raises(GranvitError, match=told):
            read_source("line_boxes", tmp_path, **options)


def test_entries_of_a_llava_file_join_by_their_image(tmp_path):
    turns = [{"from": "human", "value": "<image>\nWhat? "}, {"from": "gpt", "value": "This"}]
    entries = [
        {"id": 1, "image": "a.jpg", "conversations": turns},
        {"id": 2, "image": "a.jpg", "conversations": turns[:1]},
        {"id": 3, "image": "a.jpg", "conversations": [turns[0], {"from": "gpt", "value": "\udcff"}]},
        {"id": "text", "conversations": turns},
        None,
    ]
    items = read_source("llava", write_file(tmp_path / "conversations.json", entries).parent)
    assert [(item.original_id, item.joins) for item in items] == [
        ("a.jpg", True),
        ("a.jpg", True),
        ("a.jpg", True),
        ("entry/3/text", False),
        ("entry/4/4", False),
    ]
    assert [(turn.question, turn.answer) for turn in items[0].conversations] == [("What? ", "This")]
    assert _causes(items) == [("conversation", "bad_conversation", 0), ("conversation", "broken_text", 0)]


def test_line_boxes_of_icdar_are_read_with_their_names_quotes_scripts_and_illegible_lines(tmp_path):
    write_file(tmp_path / "img" / "img_1.jpg", "")
    lines = [
        '1,2,30,2,30,40,1,40,Latin,"say ""hi"", now"',
        "1,2,30,2,30,40,1,40,Latin,###",
        "1,2,30,2,30,40,1,40,Arabic,a, b",
    ]
    write_file(tmp_path / "box" / "gt_img_1.txt", "\ufeff" + "\n".join(lines))
    items = read_source("line_boxes", tmp_path, box_names="gt_*", between="1")
    assert [item.original_id for item in items] == ["img_1", "img_1"]
    assert [(region.box, region.text) for region in items[1].regions] == [
        ([1, 2, 30, 40], 'say "hi", now'),
        ([1, 2, 30, 40], "a, b"),
    ]
    assert [(reject.what, reject.cause) for reject in items[1].rejects] == [("region", "illegible_text")]
    with pytest.raises(GranvitError, match="box_names is 'gt'"):
        read_source("line_boxes", tmp_path, box_names="gt")


def test_llavas_entries_may_stand_one_a_line(tmp_path):
    turns = [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A"}]
    entries = [{"image": f"{n}.jpg", "conversations": turns} for n in range(3)]
    write_file(tmp_path / "l.jsonl", "\n".join(json.dumps(entry) for entry in entries) + "\n\n")
    items = read_source("llava", tmp_path, annotations="l.jsonl")
    assert [item.original_id for item in items] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [len(item.conversations) for item in items] == [1, 1, 1]
    write_file(tmp_path / "one.json", json.dumps(entries[0], indent=1))
    assert len(read_source("llava", tmp_path, annotations="one.json")) == 1
    write_file(tmp_path / "cut.jsonl", json.dumps(entries[0]) + '\n{"image": "1')
    with pytest.raises(GranvitError, match="cut.jsonl: not JSON as expected"):
        read_source("llava", tmp_path, annotations="cut.jsonl")
