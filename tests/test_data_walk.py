"""How sources are walked through: nothing is passed over unseen, and nothing is taken twice."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest
from data_worlds import FOUND, add_member, image_bytes, ingest, read_csv, read_source, spec, write_file

from granvit.data.records.shards import read_shard
from granvit.data.sources.adapters.folder import container_files, walk
from granvit.data.sources.places import ImagePlaces
from granvit.errors import GranvitError
from granvit.files import remove_surplus_shards

BOX = {"regions": [{"box": [1, 2, 30, 40], "text": "a thing"}]}


def _files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image_bytes(name))
    return root


def _tar(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            add_member(tar, name, name.encode())
    return buffer.getvalue()


def _taken(root: Path, **settings: str) -> list[bytes]:
    with ImagePlaces(root) as places:
        return [places.read(item.place) for item in read_source("tars", root, **settings)]


def test_a_folder_that_cannot_be_listed_stops_the_source(tmp_path, monkeypatch):
    _files(tmp_path, "images/a.jpg", "images/sub/b.jpg")
    scandir = os.scandir

    def failing(path):
        if os.fspath(path).endswith("sub"):
            raise OSError(errno.EIO, "Input/output error", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    for adapter in ("folder", "umg", "tars"):
        with pytest.raises(GranvitError, match=r"images/sub: .*cannot be listed \(Input/output error\)"):
            read_source(adapter, tmp_path)


@pytest.mark.parametrize("adapter", ["folder", "umg"])
def test_links_to_folders_are_followed_but_never_in_circles(tmp_path, adapter):
    _files(tmp_path / "raw", "images/a/1.jpg")
    write_file(tmp_path / "raw/images/a/1.json", BOX)
    (tmp_path / "raw/images/a/loop").symlink_to(tmp_path / "raw")
    _files(tmp_path / "other disk", "2.jpg")
    (tmp_path / "raw/images/more").symlink_to(tmp_path / "other disk")
    items = read_source(adapter, tmp_path / "raw")
    assert [item.place.file for item in items] == ["images/a/1.jpg", "images/more/2.jpg"]


def test_tars_and_box_files_behind_links_are_read(tmp_path):
    root = tmp_path / "raw"
    write_file(tmp_path / "disk/box/1.csv", "1,2,30,2,30,40,1,40,TOTAL\n")
    _files(tmp_path / "disk", "img/1.jpg")
    for name in ("img", "box"):
        (root / name).mkdir(parents=True)
        (root / name / "shop").symlink_to(tmp_path / "disk" / name)
    pieces = read_source("line_boxes", root)
    assert [piece.original_id for piece in pieces] == ["shop/1", "shop/1"] and pieces[1].regions
    (tmp_path / "disk/tars").mkdir()
    (tmp_path / "disk/tars/a.tar").write_bytes(_tar(["x.jpg"]))
    (root / "tars").symlink_to(tmp_path / "disk/tars")
    assert container_files(root, "**/*.tar", ".tar") == ["tars/a.tar"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.tar", ["a.tar", "b/a.tar", "b/c/d.tar"]),
        ("*.tar", ["a.tar"]),
        ("*/*.tar", ["b/a.tar"]),
        ("b/**/*.tar", ["b/a.tar", "b/c/d.tar"]),
        ("./b/[ab].tar", ["b/a.tar"]),
        ("**/A.tar", []),
    ],
)
def test_a_pattern_means_what_it_does_in_a_shell(tmp_path, pattern, found):
    for name in ("a.tar", "b/a.tar", "b/c/d.tar", "b/c/d.tart"):
        write_file(tmp_path / name, "")
    assert container_files(tmp_path, pattern, ".tar") == found


def test_two_box_files_of_one_image_are_refused(tmp_path):
    _files(tmp_path, "img/1.jpg")
    for name in ("1.csv", "1.txt"):
        write_file(tmp_path / "box" / name, "1,2,30,2,30,40,1,40,TOTAL\n")
    with pytest.raises(GranvitError, match=r"1\.csv and 1\.txt are about one image; keep one"):
        read_source("line_boxes", tmp_path)


def test_each_folder_comes_once_in_an_order_of_names(tmp_path):
    _files(tmp_path, "b/2.jpg", "b/1.jpg", "a/c/3.jpg")
    assert list(walk(tmp_path)) == [(".", []), ("a", []), ("a/c", ["3.jpg"]), ("b", ["1.jpg", "2.jpg"])]


def test_images_under_one_name_in_a_tar_are_taken_once_and_counted_each(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("a.0.jpg", "a.1.jpg", "a.2.jpg", "b.jpg", "b.png", "c.jpg", "c.depth.png"):
            add_member(tar, name, image_bytes(name))
    out = ingest(spec(tmp_path, adapter="tars", **FOUND), tmp_path / "out")
    kept = [sample.record.provenance["id"] for sample in read_shard(out)]
    assert kept == ["t/a", "t/b", "t/c"]
    rejects = read_csv(out.with_suffix(".rejects.csv"))
    assert [(row["key"], row["cause"]) for row in rejects] == [
        ("World__t__a", "duplicate_id"), ("World__t__a", "duplicate_id"), ("World__t__b", "duplicate_id"),
    ]  # fmt: skip


def test_tars_written_one_behind_another_are_read_to_the_end(tmp_path):
    whole = _tar(["a.jpg"]) + _tar(["b.jpg", "c.jpg"]) + _tar(["d.jpg"])
    (tmp_path / "all.tar").write_bytes(whole + bytes(512))
    assert _taken(tmp_path) == [b"a.jpg", b"b.jpg", b"c.jpg", b"d.jpg"]
    # ... and what is no tar behind the end is what a cut tar is: something that cannot be known.
    (tmp_path / "all.tar").write_bytes(_tar(["a.jpg"]) + b"rubbish " * 100)
    assert [item.place.problem for item in read_source("tars", tmp_path)] == [None, "truncated_tar"]


def test_compressed_tars_beside_those_that_a_row_names_are_no_matter(tmp_path):
    (tmp_path / "labels.tar.gz").write_bytes(b"")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.tar").write_bytes(_tar(["x.jpg"]))
    assert _taken(tmp_path, files="train/*.tar") == [b"x.jpg"]
    with pytest.raises(GranvitError, match=r"labels\.tar\.gz: .*gunzip.*option `files`"):
        read_source("tars", tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add_member(tar, "a.jpg", b"a")
        add_member(tar, "a.txt", "\ufeffA dog".encode())
    (item,) = read_source("tars", tmp_path)
    assert item.caption == "A dog"


def test_a_llava_entry_about_several_images_is_told_from_one_without_any(tmp_path):
    turns = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}]
    images = ["1.jpg", ["2.jpg"], ["3.jpg", "4.jpg"], [], None]
    entries = [{"id": n, "image": image, "conversations": turns} for n, image in enumerate(images)]
    write_file(tmp_path / "conversations.json", entries)
    items = read_source("llava", tmp_path)
    assert [item.original_id for item in items[:2]] == ["1.jpg", "2.jpg"]
    assert [item.place and item.place.problem for item in items[2:]] == ["several_images", None, None]


def test_shards_that_a_source_no_longer_has_are_removed_and_nothing_else(tmp_path):
    kept = [
        "packed/Mine/00000.tar",
        "packed/Mine/notes.txt",
        "packed/Mine2/00002.tar",
        "catalogued/Mine.sqlite",
    ]
    gone = ["packed/Mine/00002.tar", "packed/Mine/00002.parquet", "ingested/Mine/00003.counts.csv"]
    for name in kept + gone:
        write_file(tmp_path / name, "")
    remove_surplus_shards(tmp_path, "Mine", ["00000", "00001"])
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(kept)
