"""Ingest that stops: for a source that loses too much, and in the middle, by a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import FOUND, MAX_PIXELS, add_member, encode, ingest, read_csv, spec, write_coco
from PIL import Image

from granvit.errors import GranvitError


def test_shard_that_loses_too_much_stops_with_the_report_and_the_whole_list_in_its_log(tmp_path):
    root = write_coco(tmp_path / "raw", images=20)
    for number in range(6):
        (root / f"images/{number}.jpg").unlink()
    (root / "images/7.jpg").write_bytes(b"")
    log = tmp_path / "job.log"
    expected = (
        r"'World', shard World/00000: 7 of 20 images.* 0.350.*data.max_reject_share allows 0.3.*"
        r"missing_image: 6, such as images/0.jpg, images/1.jpg, images/2.jpg.*empty_image: 1, "
        r"such as images/7.jpg \(below .*raw\).*"
        r"job.log.*raise data.max_reject_share"
    )
    with pytest.raises(GranvitError, match=expected):
        ingest(spec(root), tmp_path / "out", max_reject_share=0.3, log=log)
    listed = [line for line in log.read_text().splitlines() if line.startswith("World__")]
    assert listed == [f"World__{n},image,missing_image,3,images/{n}.jpg" for n in range(6)] + [
        "World__7,image,empty_image,3,images/7.jpg"
    ]
    assert list(tmp_path.glob("out/ingested/World/*")) == []
    ingest(spec(root), tmp_path / "out", max_reject_share=0.35)


def test_shard_that_loses_too_many_boxes_stops_though_all_images_are_sound(tmp_path):
    root = write_coco(tmp_path / "raw", images=4, boxes=1)
    content = json.loads((root / "instances.json").read_text())
    for annotation in content["annotations"][:2]:
        annotation["bbox"] = [10, 10, -5, 5]
    (root / "instances.json").write_text(json.dumps(content))
    with pytest.raises(GranvitError, match=r"2 of 4 regions.*swapped_box: 2"):
        ingest(spec(root), tmp_path / "out", max_reject_share=0.3)


def test_what_a_format_leaves_out_on_purpose_is_counted_but_no_damage(tmp_path):
    root = write_coco(tmp_path / "raw", images=2, boxes=1)
    content = json.loads((root / "instances.json").read_text())
    crowd = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 5, 5], "iscrowd": 1}
    content["annotations"] += [crowd] * 9
    (root / "instances.json").write_text(json.dumps(content))
    tar = ingest(spec(root), tmp_path / "out", max_reject_share=0.0)
    assert tar.with_suffix(".counts.csv").read_text().splitlines()[1] == "World,sequence,ingest,2,2,11,2"


def test_source_that_names_no_image_at_all_stops(tmp_path):
    root = write_coco(tmp_path / "raw", images=3, boxes=0)
    content = json.loads((root / "instances.json").read_text())
    for image in content["images"]:
        del image["file_name"]
    (root / "instances.json").write_text(json.dumps(content))
    with pytest.raises(GranvitError, match="3 of 3 images.*no_image: 3"):
        ingest(spec(root, **FOUND), tmp_path / "out", max_reject_share=0.5)


def _noisy_source(root: Path, images: int) -> Path:
    """Images whose decoding takes a while, so that a kill finds the job at work."""
    write_coco(root, images=images, boxes=1)
    noise = encode(Image.effect_noise((600, 500), 80), "PNG")
    for path in (root / "images").iterdir():
        path.write_bytes(noise)
    return root


@pytest.mark.parametrize("written", [0, 4_000_000, 9_000_000])
def test_ingest_killed_in_the_middle_ends_in_the_same_bytes_when_run_again(tmp_path, written):
    root = _noisy_source(tmp_path / "raw", images=60)
    source = spec(root)
    whole = ingest(source, tmp_path / "whole")
    script = Path(__file__).with_name("ingest_alone.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(root), str(tmp_path / "killed"), "1"],
        env=os.environ | {"PYTHONPATH": str(script.parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    folder = tmp_path / "killed/0/ingested/World"
    while process.poll() is None:
        temporary = next(folder.glob(".00000.tar.*.tmp"), None)
        if temporary and temporary.stat().st_size >= written:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = {path.name for path in folder.iterdir()}
    assert left
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    again = ingest(source, tmp_path / "killed/0", max_pixels=MAX_PIXELS)
    for ending in (".tar", ".rejects.csv", ".counts.csv"):
        assert again.with_suffix(ending).read_bytes() == whole.with_suffix(ending).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000.counts.csv",
        "00000.rejects.csv",
        "00000.tar",
    ]


def test_one_bad_image_in_a_small_shard_says_little_about_a_source_of_several(tmp_path):
    root = write_coco(tmp_path / "raw", images=20)
    (root / "images/0.jpg").unlink()
    source = spec(root, shards=8)
    for shard in range(8):  # one of these has a handful of images, and a fifth of them bad
        ingest(source, tmp_path / "out", shard, max_reject_share=0.1)
    for number in range(20):
        (root / f"images/{number}.jpg").unlink(missing_ok=True)
    with pytest.raises(GranvitError, match="images were rejected"):
        for shard in range(8):
            ingest(source, tmp_path / "all", shard, max_reject_share=0.1)


def test_chance_draws_images_with_their_boxes(tmp_path):
    root = write_coco(tmp_path / "raw", images=6, boxes=5)
    (root / "images/0.jpg").unlink()
    source = spec(root, shards=2)
    for shard in range(2):  # in one of these an image of three is missing, and with it five boxes
        ingest(source, tmp_path / "out", shard, max_reject_share=0.1)


def test_boxes_that_are_lost_one_by_one_are_no_chance_of_a_few_images(tmp_path):
    root = write_coco(tmp_path / "raw", images=20, boxes=5)
    content = json.loads((root / "instances.json").read_text())
    for annotation in content["annotations"][::5]:  # one of each image's five
        annotation["bbox"] = [10, 10, -5, 5]
    (root / "instances.json").write_text(json.dumps(content))
    with pytest.raises(GranvitError, match="regions were rejected"):
        for shard in range(2):  # with so many boxes lost by image, chance would be an explanation
            ingest(spec(root, shards=2), tmp_path / "out", shard, max_reject_share=0.08)


def test_rejects_are_listed_by_the_path_that_people_can_look_at(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add_member(tar, "sub/a b.jpg", b"no image")
    table = pa.table({"image": [{"bytes": b"no image", "path": "x.jpg"}]})
    pq.write_table(table, tmp_path / "p.parquet")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "c (1).jpg").write_bytes(b"no image")
    paths = {}
    for adapter in ("tars", "parquet", "folder"):
        tar = ingest(spec(tmp_path, adapter=adapter, **FOUND), tmp_path / adapter)
        (row,) = read_csv(tar.with_suffix(".rejects.csv"))
        assert row["cause"] == "not_an_image"
        paths[adapter] = row["path"]
    assert paths == {
        "tars": "t.tar: sub/a b",
        "parquet": "p.parquet: row 0 of image",
        "folder": "images/c (1).jpg",
    }


def test_why_an_image_of_instruction_data_cannot_be_had_is_its_cause(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add_member(tar, "a.jpg", b"x")
        add_member(tar, "a.json", b"{'box'")
        add_member(tar, "b.jpg", b"x" * 2000)
    whole = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(whole[: whole.rindex(b"x" * 2000) + 100])
    instruction = {"data_type": "instruction", "use": "sft", "boxes": "none", "text": "none"}
    source = spec(tmp_path, adapter="tars", captions="none", **instruction)
    tar = ingest(source, tmp_path / "out")
    causes = [row["cause"] for row in read_csv(tar.with_suffix(".rejects.csv"))]
    assert sorted(causes) == ["broken_annotations", "truncated_tar"]
