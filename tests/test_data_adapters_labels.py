"""Layouts that label tools write: YOLO, Pascal VOC, PaddleOCR's labels, Hugging Face's image folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_worlds import LABELLED_HALF as HALF
from data_worlds import LABELLED_SIZE, ingest_labelled, read_source, spec, write_file, write_labelled

from granvit.data.sources.catalogue import catalogue_source
from granvit.errors import GranvitError

W, H = LABELLED_SIZE
_HALF_YOLO = "0.5 0.5 0.5 0.5"


YOLO_LAYOUTS = {
    "ultralytics": ("images/train/a.jpg", "labels/train/a.txt", ""),
    "one split": ("images/train/a.jpg", "labels/train/a.txt", "images=images/train"),
    "roboflow": ("train/images/a.jpg", "train/labels/a.txt", ""),
    "darknet": ("obj_data/a.jpg", "obj_data/a.txt", ""),
}


@pytest.mark.parametrize("layout", YOLO_LAYOUTS)
def test_yolo_boxes_lie_beside_their_images_or_in_labels(tmp_path, layout):
    image, label, options = YOLO_LAYOUTS[layout]
    root = write_labelled(tmp_path / "raw", image)
    write_file(root / label, f"1 {_HALF_YOLO}\n\n0 0.25 0.5 0.5 1\n")
    write_file(root / "data.yaml", "nc: 2\nnames: [no, 'a dog']\n")
    write_file(root / "train.txt", image)
    write_file(Path(root / label).parent / "README.txt", "read me") if layout == "darknet" else None
    regions, rejects = ingest_labelled(root, "yolo", options, max_reject_share=0.0, max_cut_share=0.0)
    assert regions == {image: [(HALF, "a dog"), ([0.0, 0.0, 300.0, 500.0], "no")]}
    assert rejects == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("data.yaml", "names:\n  0: 7\n  1: yes\n"),
        ("classes.txt", "7\nyes\n"),
        ("labels/classes.txt", "7\r\nyes"),
    ],
)
def test_yolo_classes_have_the_names_that_stand_in_the_file(tmp_path, file, content):
    root = write_labelled(tmp_path, "images/a.jpg")
    write_file(root / "labels/a.txt", f"0 {_HALF_YOLO}\n1 {_HALF_YOLO}\n")
    write_file(root / file, content)
    items = read_source("yolo", root)
    assert [region.text for item in items for region in item.regions] == ["7", "yes"]
    assert {item.original_id for item in items} == {"images/a"}


def test_yolo_polygons_become_the_box_around_them_and_scores_are_read(tmp_path):
    root = write_labelled(tmp_path / "raw", "images/a.jpg")
    polygon = "0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"
    lines = [f"0 {polygon}", f"0 {polygon} 0.5", f"0 {_HALF_YOLO} 0.5"]
    write_file(root / "labels/a.txt", "\n".join(lines))
    write_file(root / "classes.txt", "thing")
    regions, _ = ingest_labelled(root, "yolo", max_reject_share=0.0)
    assert regions == {"images/a.jpg": [(HALF, "thing")] * 3}
    items = read_source("yolo", root)
    assert [region.score for item in items for region in item.regions] == [None, 0.5, 0.5]


def test_yolo_key_points_are_no_polygon(tmp_path):
    root = write_labelled(tmp_path / "raw", "images/a.jpg")
    write_file(root / "labels/a.txt", f"0 {_HALF_YOLO} 0.9 0.9 2 0.1 0.1 2\n")
    write_file(root / "data.yaml", "names: {0: person}\nkpt_shape: [2, 3]\n")
    assert ingest_labelled(root, "yolo")[0] == {"images/a.jpg": [(HALF, "person")]}


def test_what_is_wrong_in_yolo_files_is_counted_by_cause_with_the_path(tmp_path):
    root = write_labelled(tmp_path / "raw", "images/a.jpg", "images/none.jpg")
    bad = ["0 0.5 0.5 0.5", "0 a b c d", "0 nan 0.5 0.5 0.5", f"2 {_HALF_YOLO}", f"1.5 {_HALF_YOLO}", "0"]
    write_file(root / "labels/a.txt", "\n".join([*bad, f"0 {_HALF_YOLO}", "0 0.9 0.5 0.4 0.5"]))
    write_file(root / "labels/lost.txt", f"0 {_HALF_YOLO}\n")
    write_file(root / "classes.txt", "thing\nother\n")
    (root / "images/b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    regions, rejects = ingest_labelled(root, "yolo")
    assert {name: len(found) for name, found in regions.items()} == {"images/a.jpg": 2, "images/none.jpg": 0}
    assert rejects == [
        *[("images/a.jpg", "bad_box", "1")] * 4,
        ("images/a.jpg", "box_cut", "0"),
        *[("images/a.jpg", "unknown_category", "1")] * 2,
        ("images/b.heic", "not_read_here.heic", "0"),
        ("images/lost", "no_image", "1"),
    ]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("x", "", "none of data.yaml, classes.txt, labels/classes.txt is there.*option `classes`"),
        ("data.yaml", "names: [a\nb: c", r"data.yaml, line 2: no YAML"),
        ("data.yaml", "nc: 3", "data.yaml: names is None; expected a list"),
        ("data.yaml", "names: {a: b}", "data.yaml: names is .*expected a list"),
        ("data.yaml", "- a", "data.yaml: no YAML object"),
    ],
)
def test_yolo_without_names_of_classes_says_where_they_are_looked_for(tmp_path, file, content, told):
    write_file(write_labelled(tmp_path, "images/a.jpg") / file, content)
    with pytest.raises(GranvitError, match=told):
        read_source("yolo", tmp_path)


def test_yolo_boxes_in_pixels_stop_the_source_and_the_way_they_are_written_is_named(tmp_path):
    root = write_labelled(tmp_path / "raw", "images/a.jpg")
    write_file(root / "labels/a.txt", "0 450 375 300 250\n")
    write_file(root / "classes.txt", "thing")
    with pytest.raises(GranvitError, match="set box_format=cxcywh in"):
        ingest_labelled(root, "yolo", max_reject_share=0.1, max_cut_share=0.1)
    assert ingest_labelled(root, "yolo", "box_format=cxcywh")[0] == {
        "images/a.jpg": [([300, 250, 600, 500], "thing")]
    }


def _object(name="dog", corners=(151, 126, 450, 375), extra=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def _voc(*objects, size=(W, H)):
    width, height = size
    head = f"<filename>elsewhere.jpg</filename><size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{head}{''.join(objects)}</annotation>"


def test_voc_counts_pixels_from_1_unless_told_otherwise(tmp_path):
    root = write_labelled(tmp_path / "raw", "JPEGImages/a.jpg")
    whole = _object("everything", (1, 1, W, H))
    write_file(root / "Annotations/a.xml", '<?xml version="1.0"?>' + _voc(_object(" a dog "), whole))
    regions, rejects = ingest_labelled(root, "voc", max_reject_share=0.0, max_cut_share=0.0)
    assert regions == {"JPEGImages/a.jpg": [(HALF, "a dog"), ([0.0, 0.0, 600.0, 500.0], "everything")]}
    assert rejects == []
    boxes = [region.box for item in read_source("voc", root, first_pixel="0") for region in item.regions]
    assert boxes == [[151, 126, 450, 375], [1, 1, W, H]]


def test_voc_beside_the_images_and_difficult_objects(tmp_path):
    root = write_labelled(tmp_path / "raw", "train/a.jpg")
    hard = _object("hard", extra="<difficult>1</difficult>")
    write_file(root / "train/a.xml", _voc(_object(extra="<difficult>0</difficult>"), hard, size=(0, 0)))
    options = "images=train;annotations=train"
    regions, rejects = ingest_labelled(root, "voc", options, max_reject_share=0.0)
    assert regions == {"train/a.jpg": [(HALF, "dog")]}
    assert rejects == [("train/a.jpg", "difficult_object", "1")]
    kept = read_source("voc", root, images="train", annotations="train", difficult="keep")
    assert [region.text for item in kept for region in item.regions] == ["dog", "hard"]


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotation>&b;</annotation>'


def test_what_is_wrong_in_voc_files_is_counted_by_cause_with_the_path(tmp_path):
    root = write_labelled(tmp_path / "raw", *(f"JPEGImages/{name}.jpg" for name in "abcdefgh"))
    documents = {
        "a": _voc(_object(corners=("x", 1, 2, 3)), "<object><name>n</name></object>", _object("")),
        "b": "<annotation>",
        "c": BOMB,
        "d": OUTSIDE,
        "e": "<svg/>",
        "f": '<?xml version="1.0" encoding="no-such"?><annotation/>',
        "g": _voc(_object(), size=(500, 400)),
        "lost": _voc(_object()),
    }
    for name, text in documents.items():
        write_file(root / f"Annotations/{name}.xml", text)
    (root / "Annotations/h.xml").write_bytes(BOMB.encode("utf-16"))
    regions, rejects = ingest_labelled(root, "voc")
    assert set(regions) == {f"JPEGImages/{name}.jpg" for name in "abcdefh"} and not any(regions.values())
    assert rejects == [
        *[("JPEGImages/a.jpg", "bad_box", "1")] * 2,
        ("JPEGImages/a.jpg", "no_text", "1"),
        *[(f"JPEGImages/{name}.jpg", "broken_annotations", "1") for name in "bcdef"],
        ("JPEGImages/g.jpg", "stated_size_differs", "1"),
        ("JPEGImages/h.jpg", "broken_annotations", "1"),
        ("lost", "no_image", "1"),
    ]


def _paddle(*entries):
    return json.dumps(list(entries), ensure_ascii=False)


def _line(text="Straße", points=((150, 125), (450, 125), (450, 375), (150, 375))):
    return {"transcription": text, "points": [list(point) for point in points], "difficult": False}


@pytest.mark.parametrize(
    ("labels", "path", "options"),
    [("Label.txt", "imgs/a.jpg", ""), ("imgs/Label.txt", "imgs/a.jpg", "annotations=imgs/Label.txt"),
     ("Label.txt", "other/imgs/a.jpg", ""), ("l.txt", "a.jpg", "annotations=l.txt;images=imgs")],
)  # fmt: skip
def test_paddleocr_labels_name_the_image_and_its_lines(tmp_path, labels, path, options):
    root = write_labelled(tmp_path / "raw", "imgs/a.jpg")
    askew = _line("askew", ((150, 200), (300, 125), (450, 300), (300, 375)))
    write_file(root / labels, f"{path}\t{_paddle(_line(), askew)}\r\n\n")
    regions, rejects = ingest_labelled(root, "paddle_labels", options, max_reject_share=0.0)
    assert regions == {"imgs/a.jpg": [(HALF, "Straße"), (HALF, "askew")]}
    assert rejects == []


def test_what_is_wrong_in_paddleocr_labels_is_counted_by_cause_with_the_path(tmp_path):
    root = write_labelled(tmp_path / "raw", "a.jpg", "b.jpg", "c.jpg")
    bad = [_line("x", [(1, 2)]), _line("x", [(1, 2, 3), (4, 5, 6)]), {"transcription": "x"}, "x"]
    rows = [
        "a.jpg\t" + _paddle(_line(), _line("###"), _line("*"), _line(" "), *bad),
        "b.jpg\t[{",
        "c.jpg\t{}",
        "a.jpg\t[]",
        "none.jpg\t" + _paddle(_line()),
        "no tab",
    ]
    write_file(root / "Label.txt", "\n".join(rows))
    regions, rejects = ingest_labelled(root, "paddle_labels")
    assert regions == {"a.jpg": [(HALF, "Straße")], "c.jpg": []}
    assert rejects == [
        ("Label.txt: line 2", "broken_annotations", "0"),
        ("Label.txt: line 6", "broken_annotations", "0"),
        *[("a.jpg", "bad_box", "1")] * 4,
        ("a.jpg", "duplicate_id", "0"),
        *[("a.jpg", "illegible_text", "1")] * 2,
        ("a.jpg", "no_text", "1"),
        ("c.jpg", "bad_regions", "1"),
        ("none.jpg", "missing_image", "1"),
    ]
    stars = read_source("paddle_labels", root, illegible="###")
    assert "*" in [region.text for item in stars for region in item.regions]


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ("metadata_jsonl", r"no metadata\.jsonl or metadata\.csv in it or in a folder below"),
        ("paddle_labels", r"Label\.txt: missing"),
        ("voc", "JPEGImages: this folder cannot be listed"),
    ],
)
def test_files_that_are_not_there_are_named(tmp_path, adapter, told):
    source = spec(write_labelled(tmp_path / "raw", "a.jpg"), adapter=adapter)
    with pytest.raises(GranvitError, match=told):
        catalogue_source(source, tmp_path / "c.sqlite")
