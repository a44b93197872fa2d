"""Ingest: equal input gives equal bytes, bad items cost themselves only, boxes fit the image as shown."""

from __future__ import annotations

import io
import json

import pytest
from data_worlds import FOUND, edit_coco, image_bytes, ingest, read_csv, spec, write_coco, write_llava
from PIL import Image

from granvit.data.records.images import decode_rgb
from granvit.data.records.shards import read_shard
from granvit.errors import GranvitError


def _ingest(source, out, shard=0, **limits):
    tar = ingest(source, out, shard, **limits)
    rejects = [(row["key"], row["cause"]) for row in read_csv(tar.with_suffix(".rejects.csv"))]
    return list(read_shard(tar)), rejects


def test_equal_sources_give_equal_bytes_wherever_and_whenever(tmp_path):
    first, second = write_coco(tmp_path / "a"), write_coco(tmp_path / "b")
    edit_coco(
        second,
        lambda content: (
            content["images"].reverse(),
            content["annotations"].sort(key=lambda a: a["image_id"]),
        ),
    )
    tars = [ingest(spec(root), tmp_path / f"out of {root.name}") for root in (first, second)]
    assert tars[0].read_bytes() == tars[1].read_bytes()


def test_shards_share_out_all_images_once(tmp_path):
    source = spec(write_coco(tmp_path / "raw", images=20), shards=3)
    shards = [_ingest(source, tmp_path / "out", shard)[0] for shard in range(3)]
    keys = [sample.record.key for shard in shards for sample in shard]
    assert sorted(keys) == sorted(f"World__{i}" for i in range(20))
    assert all(keys == sorted(keys) for keys in [[s.record.key for s in shard] for shard in shards])


def test_image_bytes_are_kept_as_they_came(tmp_path):
    root = write_coco(tmp_path / "raw", images=3)
    samples = list(_ingest(spec(root), tmp_path / "out")[0])
    assert len(samples) == 3
    for sample in samples:
        assert sample.image == (root / sample.record.provenance["file"]).read_bytes()


def test_bad_images_cost_themselves_only_and_are_counted_by_cause(tmp_path):
    root = write_coco(tmp_path / "raw", images=8)
    (root / "images/0.jpg").unlink()
    (root / "images/1.jpg").write_bytes(b"")
    (root / "images/2.jpg").write_bytes(b"no image at all")
    (root / "images/3.jpg").write_bytes(image_bytes("3")[:700])
    edit_coco(root, lambda content: content["images"][4].update(file_name="../../etc/passwd"))
    edit_coco(root, lambda content: content["images"][5].update(width=1200))
    edit_coco(root, lambda content: content["images"].append({"id": 7, "file_name": "7.jpg"}))
    samples, rejects = _ingest(spec(root), tmp_path / "out")
    assert [sample.record.key for sample in samples] == ["World__6", "World__7"]
    assert dict(rejects) == {
        "World__0": "missing_image",
        "World__1": "empty_image",
        "World__2": "not_an_image",
        "World__3": "corrupt_image",
        "World__4": "path_outside_source",
        "World__5": "stated_size_differs",
        "World__7": "duplicate_id",
    }


def test_bad_annotations_cost_themselves_only(tmp_path):
    root = write_coco(tmp_path / "raw", images=1, boxes=1)

    def add(content):
        for wrong in (
            {"bbox": [1, 2, 3]},
            {"bbox": [0, 0, "4", 5]},
            {"bbox": [700, 0, 50, 50]},
            {"bbox": [10, 10, -5, 5]},
            {"category_id": 9},
            {"iscrowd": 1},
        ):
            content["annotations"].append({"image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9]} | wrong)

    edit_coco(root, add)
    (sample,), rejects = _ingest(spec(root), tmp_path / "out")
    assert [region.text for region in sample.record.regions] == ["thing 0 of 0"]
    causes = sorted(cause for _, cause in rejects)
    assert causes == [
        "bad_box",
        "bad_box",
        "box_outside",
        "crowd_annotation",
        "no_text",
        "swapped_box",
    ]


def test_box_is_cut_at_the_border_and_category_name_is_the_text_without_a_caption(tmp_path):
    root = write_coco(tmp_path / "raw", images=1, boxes=0)
    box = {"image_id": 0, "category_id": 1, "bbox": [-20, 400, 100, 300]}
    edit_coco(root, lambda content: content["annotations"].append(box))
    (sample,), _ = _ingest(spec(root), tmp_path / "out")
    assert (sample.record.regions[0].box, sample.record.regions[0].text) == ([0, 400, 80, 500], "thing")


@pytest.mark.parametrize(
    ("annotated", "orientation"),
    # Upside down or mirrored, an image keeps its size: nothing says how its boxes were drawn.
    [*(("as shown", orientation) for orientation in range(1, 9)), *(("as stored", n) for n in range(5, 9))],
)
def test_size_and_boxes_refer_to_the_image_as_shown(tmp_path, annotated, orientation):
    root = write_coco(tmp_path / "raw", images=1, boxes=0)
    stored = Image.new("L", (600, 500), 0)
    stored.paste(255, (64, 32, 320, 160))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    stored.save(buffer, "PNG", exif=exif)
    (root / "images/0.jpg").write_bytes(buffer.getvalue())
    shown = decode_rgb(buffer.getvalue())
    x1, y1, x2, y2 = stored.getbbox() if annotated == "as stored" else shown.getbbox()
    size = stored.size if annotated == "as stored" else shown.size

    def annotate(content):
        content["images"][0].update(width=size[0], height=size[1])
        content["annotations"].append({"image_id": 0, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})

    edit_coco(root, annotate)
    (sample,), rejects = _ingest(spec(root), tmp_path / "out")
    assert (sample.record.width, sample.record.height) == shown.size
    assert tuple(sample.record.regions[0].box) == shown.getbbox()
    assert (sample.extension, rejects) == ("png", [])


def test_conversations_of_one_image_meet_in_one_record(tmp_path):
    root = write_llava(tmp_path / "raw", images=2)
    entries = json.loads((root / "conversations.json").read_text())
    again = {
        "id": "q0",
        "image": "0.png",
        "conversations": [
            {"from": "human", "value": "Colour?\n<image>"},
            {"from": "gpt", "value": "Blue"},
            {"from": "human", "value": "Select. \n"},
            {"from": "gpt", "value": "A"},
        ],
    }
    text_only = {"id": "t", "conversations": entries[0]["conversations"]}
    broken = {"id": "b", "image": "1.png", "conversations": entries[0]["conversations"][:3]}
    (root / "conversations.json").write_text(json.dumps([*entries, again, text_only, broken]))
    source = spec(root, adapter="llava", data_type="instruction", use="sft", captions="none")
    samples, rejects = _ingest(source, tmp_path / "out")
    turns = [(turn.question, turn.answer) for turn in samples[0].record.conversations]
    assert turns == [("What is it?", "Answer 0"), ("Sure?", "Yes"), ("Colour?", "Blue"), ("Select. \n", "A")]
    assert len(samples) == 2
    assert sorted(cause for _, cause in rejects) == ["bad_conversation", "no_image"]


def test_captions_are_kept_only_where_the_row_says_that_they_are_wanted(tmp_path):
    root = write_coco(tmp_path / "raw", images=1)
    kept, left = (
        next(read_shard(ingest(spec(root, captions=how), tmp_path / how))).record for how in ("given", "none")
    )
    assert (kept.caption, left.caption) == ("view 0", None)


def test_folder_is_read_at_any_depth_and_through_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/page.png").write_bytes(image_bytes("p", form="PNG"))
    (tmp_path / "raw/images/deep").mkdir(parents=True)
    (tmp_path / "raw/images/deep/a.jpg").write_bytes(image_bytes("a"))
    (tmp_path / "raw/images/notes.txt").write_text("no image")
    (tmp_path / "raw/images/linked").symlink_to(tmp_path / "elsewhere")
    samples, rejects = _ingest(spec(tmp_path / "raw", adapter="folder", **FOUND), tmp_path / "out")
    assert [s.record.key for s in samples] == ["World__deep__a=2Ejpg", "World__linked__page=2Epng"]
    assert rejects == []


def test_absent_or_empty_source_says_which_row_which_folder_and_what_to_do(tmp_path):
    with pytest.raises(GranvitError, match=r"'World'.*nowhere.*path"):
        _ingest(spec(tmp_path / "nowhere"), tmp_path / "out")
    (tmp_path / "raw/images").mkdir(parents=True)
    with pytest.raises(GranvitError, match=r"'World'.*no images.*images/"):
        _ingest(spec(tmp_path / "raw", adapter="folder"), tmp_path / "out")
    with pytest.raises(GranvitError, match=r"instances\.json: missing"):
        _ingest(spec(tmp_path / "raw"), tmp_path / "out")
    (tmp_path / "raw/instances.json").write_text("{")
    with pytest.raises(GranvitError, match=r"instances\.json: not JSON"):
        _ingest(spec(tmp_path / "raw"), tmp_path / "out")
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]
