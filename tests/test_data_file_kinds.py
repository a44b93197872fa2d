"""Which files of a folder are images: none that could be data is passed over unseen."""

from __future__ import annotations

import io
import tarfile

import pytest
from data_worlds import (
    FOUND,
    add_member,
    edit_coco,
    encode,
    image_bytes,
    ingest,
    read_csv,
    read_source,
    spec,
    write_coco,
)
from PIL import Image

from granvit.data.records.shards import read_shard

READ = {
    "a.jpg": "JPEG", "b.jfif": "JPEG", "c.jpe": "JPEG", "d.MPO": "JPEG", "no_suffix": "PNG", "e.avif": "AVIF",
    "f.jpg_large": "JPEG", "g.dib": "BMP", "h.ppm": "PPM", "bitmap": "BMP", "webp": "WEBP", "tiff": "TIFF",
    "pnm": "PPM",
}  # fmt: skip
UNREAD = {
    "i.heic": b"\0\0\0\x18ftypheic\0\0\0\0", "j.pdf": b"%PDF-1.7\n", "k.svg": b"<svg/>", "l": b"\0\1\2\3" * 9,
    "m.psd": b"8BPS\0\1" + bytes(20), "p.xbm": b"#define p_width 8",
    "q.jp2": b"\0\0\0\x0cjP  \r\n\x87\n", "n.zip": b"PK\3\4\x14\0" + bytes(20), "o.cr2": b"\xff\x00\x01" * 9,
}  # fmt: skip
JUNK = {"._a.jpg": b"\0\5\x16", "__MACOSX/a.jpg": b"\0\5", "Thumbs.db": b"\xd0\xcf", ".DS_Store": b"\0\1"}
BESIDE = {
    "README": b"read me",
    "LICENSE": "© somebody".encode(),
    "notes.txt": b"x",
    "_SUCCESS": b"",
    "i.json": b"{}",
}


def _write(root, *groups):
    for group in groups:
        for name, data in group.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(image_bytes(name, form=data) if isinstance(data, str) else data)


def test_a_folders_images_are_read_whatever_their_suffix_and_the_rest_is_counted_by_it(tmp_path):
    _write(tmp_path / "raw", READ, UNREAD, JUNK, BESIDE)
    tar = ingest(spec(tmp_path / "raw", adapter="folder", **FOUND), tmp_path / "out")
    assert {sample.record.provenance["file"] for sample in read_shard(tar)} == set(READ)
    causes = [row["cause"] for row in read_csv(tar.with_suffix(".rejects.csv"))]
    suffixes = ["", ".cr2", ".heic", ".jp2", ".pdf", ".psd", ".svg", ".xbm", ".zip"]
    assert sorted(causes) == [f"not_read_here{suffix}" for suffix in suffixes]


@pytest.mark.parametrize("adapter", ["folder", "umg"])
def test_what_operating_systems_leave_behind_is_no_image(tmp_path, adapter):
    _write(tmp_path, {"a.jpg": "JPEG"}, JUNK)
    assert [item.place.file for item in read_source(adapter, tmp_path)] == ["a.jpg"]


def test_junk_in_a_tar_is_no_image_and_no_part_of_one(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("._a.jpg", "a.jfif", "__MACOSX/b.jpg", "b.mpo"):
            add_member(tar, name, b"x")
    assert [item.original_id for item in read_source("tars", tmp_path)] == ["t/a", "t/b"]


def test_a_tars_members_are_read_whatever_their_suffix_and_the_rest_is_counted_by_it(tmp_path):
    beside = {"x.txt": b"a text", "x.jpg": image_bytes("x"), "x.npz": b"PK\3\4", "x.mp4": b"\0\0\0\x18ftyp"}
    texts = {"y.txt": b"alone", "z.cls": b"7"}
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "raw/t.tar", "w") as tar:
        for name, data in (READ | UNREAD | JUNK | beside | texts).items():
            add_member(tar, name, image_bytes(name, form=data) if isinstance(data, str) else data)
    tar = ingest(spec(tmp_path / "raw", adapter="tars", **FOUND), tmp_path / "out")
    kept = {sample.record.provenance["id"].removeprefix("t/") for sample in read_shard(tar)}
    assert kept == {name.partition(".")[0] for name in READ} | {"x"}
    causes = sorted(row["cause"] for row in read_csv(tar.with_suffix(".rejects.csv")))
    suffixes = ["", ".cr2", ".heic", ".jp2", ".pdf", ".psd", ".svg", ".xbm", ".zip"]
    assert causes == ["no_image", "no_image", *(f"not_read_here{suffix}" for suffix in suffixes)]


def test_an_unread_format_that_annotations_name_is_counted_by_its_suffix_too(tmp_path):
    root = write_coco(tmp_path / "raw", images=4, boxes=1)
    unread = {"0.jp2": UNREAD["q.jp2"], "1.tga": bytes(50), "2.html": b"<html>", "3.jpg": UNREAD["i.heic"]}
    _write(root / "images", unread)
    names = list(unread)
    edit_coco(root, lambda content: [i.update(file_name=names[i["id"]]) for i in content["images"]])
    tar = ingest(spec(root), tmp_path / "out")
    causes = [row["cause"] for row in read_csv(tar.with_suffix(".rejects.csv"))]
    assert causes == ["not_read_here.jp2", "not_read_here.tga", "not_an_image", "not_an_image"]


def test_an_unread_image_beside_its_json_is_one_item(tmp_path):
    _write(tmp_path, UNREAD, {"i.json": b"{}"})
    problems = {item.original_id: item.place.problem for item in read_source("umg", tmp_path)}
    assert problems.pop("i") == "not_read_here.heic"
    assert len(problems) == len(UNREAD) - 1


def test_later_pages_are_counted(tmp_path):
    pages = [Image.new("L", (600, 500), grey) for grey in (0, 100, 200)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    animation = encode(pages[0], "GIF", save_all=True, append_images=pages[1:])
    _write(tmp_path / "raw", {"a.tiff": buffer.getvalue(), "b.gif": animation})
    tar = ingest(spec(tmp_path / "raw", adapter="folder", **FOUND), tmp_path / "out", max_reject_share=0.0)
    assert len(list(read_shard(tar))) == 2
    rows = [(row["what"], row["cause"], row["regions"]) for row in read_csv(tar.with_suffix(".rejects.csv"))]
    assert rows == [("page", "later_page", "0")] * 2
