"""Folders as people have them, one for each layout that `granvit data new` knows, and the row of each."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as parquet
from data_worlds import (
    blocks_picture,
    edit_coco,
    image_bytes,
    prepare,
    spec,
    write_coco,
    write_file,
    write_llava,
)
from PIL import Image, ImageDraw


def photographs(folder, number: int = 2):
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(number):
        blocks_picture(at).save(folder / f"{at}.jpg")


def pages(folder, number: int = 2):
    """White paper with lines of ink."""
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(number):
        page = Image.new("RGB", (500, 700), (250, 248, 240))
        drawing = ImageDraw.Draw(page)
        for line in range(12):
            drawing.rectangle((60, 60 + 48 * line, 300 + 10 * (at + line), 72 + 48 * line), fill="black")
        page.save(folder / f"{at}.jpg")


def write_folder(root):
    photographs(root)


def write_scans(root):
    pages(root / "2024")


def write_coco_elsewhere(root):
    write_coco(root, images=2)
    (root / "images").rename(root / "train2017")
    (root / "annotations").mkdir()
    (root / "instances.json").rename(root / "annotations/instances_train2017.json")
    edit = json.loads((root / "annotations/instances_train2017.json").read_text())
    info = {"info": {}, "licenses": [{"id": 1}]}
    write_file(root / "annotations/instances_train2017.json", info | edit)


def write_metadata(root):
    photographs(root / "train")
    lines = [{"file_name": f"{at}.jpg", "text": "a view", "objects": {"bbox": [[1, 2, 30, 40]],
              "categories": ["cat"]}} for at in range(2)]  # fmt: skip
    write_file(root / "train/metadata.jsonl", "\n".join(map(json.dumps, lines)))


def write_yolo(root):
    photographs(root / "images/train")
    for at in range(2):
        write_file(root / f"labels/train/{at}.txt", "0 0.5 0.5 0.25 0.25\n1 0.2 0.2 0.1 0.1\n")
    write_file(root / "pets.yaml", "names: [cat, dog]\n")


def write_voc(root):
    photographs(root / "pictures")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>90</xmax><ymax>80</ymax></bndbox>"
    text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    for at in range(2):
        write_file(root / f"xml/{at}.xml", text)


def write_paddle(root):
    pages(root)
    points = [[60, 60], [300, 60], [300, 72], [60, 72]]
    lines = [
        f"scans/{at}.jpg\t{json.dumps([{'transcription': 'TOTAL', 'points': points}])}" for at in range(2)
    ]
    write_file(root / "Label.txt", "\n".join(lines))


def write_lines(root):
    pages(root / "photos")
    for at in range(2):
        write_file(root / f"truth/gt_{at}.txt", "60,60,300,60,300,72,60,72,TOTAL, RM\n")


def write_two_corners(root):
    pages(root / "img")
    for at in range(2):
        write_file(root / f"box/{at}.csv", '60,60,300,72,"TOTAL, RM"\n')


def write_umg(root):
    photographs(root)
    for at in range(2):
        entry = {"caption": "a view", "objects": [{"bbox": [1, 2, 30, 40], "phrase": "a cat"}]}
        write_file(root / f"{at}.json", entry)


def write_parquet(root):
    root.mkdir()
    table = pa.table({"image": [{"bytes": image_bytes("a"), "path": "a.jpg"}], "label": [1]})
    parquet.write_table(table, root / "train-00000.parquet")


def write_shards(root):
    raw = root.with_name("raw-of-shards")
    prepare(spec(write_coco(raw, images=2)), root.with_name("made-shards"))
    root.with_name("made-shards").joinpath("packed/World").rename(root)


def write_chat(root):
    write_llava(root, images=2)


def write_relative_coco(root):
    write_coco(root, images=3)

    def shrink(content):
        for one in content["annotations"]:
            x, y, w, h = one["bbox"]
            one["bbox"] = [x / 600, y / 500, w / 600, h / 500]

    edit_coco(root, shrink)


ONE_IMAGE = {"images": [{"id": 1, "file_name": "0.jpg"}], "annotations": []}
# writer: (data_type, adapter, boxes, captions, text, options), how many boxes and captions its adapter finds
LAYOUTS = {
    write_folder: (("natural", "folder", "detector", "none", "captioner", ""), 0, 0),
    write_scans: (("ocr", "folder", "ocr", "none", "ocr", ""), 0, 0),
    write_coco_elsewhere: (
        ("natural", "coco", "given", "given", "given",
         "annotations=annotations/instances_train2017.json;images=train2017"), 6, 2),
    write_relative_coco: (("natural", "coco", "given", "given", "given", "box_format=xywh_relative"), 9, 3),
    write_metadata: (("natural", "metadata_jsonl", "given", "given", "given", ""), 2, 2),
    write_yolo: (("natural", "yolo", "given", "none", "given", "classes=pets.yaml"), 4, 0),
    write_voc: (("natural", "voc", "given", "none", "given", "annotations=xml;images=pictures"), 2, 0),
    write_paddle: (("ocr", "paddle_labels", "given", "none", "given", ""), 2, 0),
    write_lines: (
        ("ocr", "line_boxes", "given", "none", "given", "boxes=truth;images=photos;box_names=gt_*"), 2, 0),
    write_two_corners: (("ocr", "line_boxes", "given", "none", "given", "points=2"), 2, 0),
    write_umg: (("natural", "umg", "given", "given", "given", "regions=objects;box=bbox;text=phrase"), 2, 2),
    write_parquet: (("natural", "parquet", "detector", "none", "captioner", ""), 0, 0),
    write_shards: (("natural", "tars", "given", "given", "given", ""), 6, 2),
    write_chat: (("instruction", "llava", "none", "none", "none", ""), 0, 0),
}  # fmt: skip
