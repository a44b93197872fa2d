"""Sources that are odd but found: names that collide, folders called like files, damaged pages, pipes."""

from __future__ import annotations

import os
import re
import tarfile
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import add_member, image_bytes, ingest, read_csv, read_source, spec, write_coco, write_file

from granvit.data.records.records import Rejected
from granvit.data.records.shards import read_shard
from granvit.data.sources import places
from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.adapters.folder import image_files
from granvit.data.sources.items import Place
from granvit.data.sources.places import ImagePlaces
from granvit.data.sources.table import read_sources
from granvit.errors import GranvitError

HEADER = "name\tdata_type\tgroup\tuse\tadapter\tpath\tboxes\tcaptions\ttext\tshards\toptions"
ROW = "Mine\tnatural\tUMG-41M\tpretrain\tcoco\tdata/Mine\tgiven\tcaptioner\tgiven\t2\t"


def _put(root, **files):
    for name, data in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _causes(items):
    return Counter((reject.what, reject.cause) for item in items for reject in item.rejects)


def _ingested(source, out):
    """Files of the images that were kept, and ``(what, cause)`` of what was not."""
    tar = ingest(source, out)
    kept = [sample.record.provenance["file"] for sample in read_shard(tar)]
    return kept, [(row["what"], row["cause"]) for row in read_csv(tar.with_suffix(".rejects.csv"))]


@pytest.mark.parametrize(("adapter", "folder"), [("umg", ""), ("line_boxes", "img__")])
@pytest.mark.parametrize("turned", [False, True])
def test_of_images_with_one_stem_the_first_by_name_is_taken_and_the_rest_counted(
    tmp_path, monkeypatch, adapter, folder, turned
):
    _put(
        tmp_path / "raw",
        **{f"{folder}a_png": image_bytes("p", form="PNG"), f"{folder}a_jpg": image_bytes("j")},
    )
    (tmp_path / "raw/box").mkdir()
    plain = os.walk
    # Whatever order the disk gives names in.
    monkeypatch.setattr(
        os, "walk", lambda *a, **k: ((p, d, sorted(n, reverse=turned)) for p, d, n in plain(*a, **k))
    )
    kept, rejects = _ingested(
        spec(tmp_path / "raw", adapter=adapter, boxes="detector", captions="none"), tmp_path
    )
    assert kept == [folder.replace("__", "/") + "a.jpg"]
    assert rejects == [("image", "duplicate_id")]


def test_image_files_come_in_the_order_of_their_names(tmp_path):
    for name in ("z.jpg", "b/2.jpg", "b/1.jpg", "a/9.jpg", "y.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [name for name, _ in image_files(tmp_path)] == ["y.jpg", "z.jpg", "a/9.jpg", "b/1.jpg", "b/2.jpg"]


def test_what_is_said_about_several_pages_or_a_lost_image_is_counted(tmp_path):
    image = {"bytes": b"x", "path": "x"}
    columns = {
        "images": [[image, image], [], [image], [image]],
        "uid": ["two", "none", "one", None],
        "boxes": [[[0, 0, 9, 9], [1, 1, 9, 9], [1]], [[0, 0, 9, 9]], [[0, 0, 9, 9]], [[0, 0, 9, 9]]],
        "words": ["both", None, "it", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    items = read_source("parquet", tmp_path, boxes="boxes", caption="words", id="uid")
    assert [(item.original_id, len(item.regions), item.caption) for item in items] == [
        ("two/0", 0, None),
        ("two/1", 0, None),
        ("none", 1, None),
        ("one/0", 1, "it"),
        ("a.parquet/3", 1, None),
    ]
    assert _causes(items) == {
        ("region", "several_images"): 2,
        ("region", "bad_box"): 1,
        ("caption", "several_images"): 1,
    }


def test_a_sample_of_a_tar_whose_json_is_broken_is_rejected(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add_member(tar, "a.jpg", b"a")
        add_member(tar, "a.json", b'{"regions": [')
        add_member(tar, "b.json", b"[]")
        add_member(tar, "c.jpg", b"c")
    items = read_source("tars", tmp_path)
    assert [item.place.problem for item in items] == ["broken_annotations", "broken_annotations", None]


def test_the_picture_of_a_tars_sample_is_the_one_without_a_second_name(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("a.depth.png", "a.jpg", "a.mask.jpg", "b.left.jpg", "b.right.jpg"):
            add_member(tar, name, name.encode())
    with ImagePlaces(tmp_path) as found:
        taken = [found.read(item.place) for item in read_source("tars", tmp_path)]
    assert taken == [b"a.jpg", b"b.left.jpg", b"b.right.jpg"]  # the last one, a duplicate


def test_visual_genomes_regions_that_are_no_list_and_endless_ids_cost_themselves(tmp_path):
    entries = [{"id": 1, "regions": {"x": 1}}, {"id": 2}, {"id": "x" * 400, "regions": []}, {"id": 4.0}]
    write_file(tmp_path / "region_descriptions.json", entries)
    items = read_source("visual_genome", tmp_path)
    assert [item.original_id for item in items] == ["1", "2", "x" * 400, "4"]
    assert [_causes([item]) for item in items] == [{("region", "bad_regions"): 1}, {}, {}, {}]


def test_cocos_boxes_beyond_all_floats_and_ids_that_a_table_made_decimal(tmp_path):
    content = (
        '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2.0, "file_name": "b.jpg"}],'
        ' "annotations": [{"image_id": 1, "bbox": [1%s, 0, 17%s, 300], "category_id": 1},'
        ' {"image_id": 1.0, "bbox": [1e308, 0, 1e308, 300], "category_id": 1},'
        ' {"image_id": 1.0, "bbox": [0, 0, 9, 9], "category_id": 7.0}],'
        ' "categories": [{"id": 7, "name": "seven"}]}'
    )
    write_file(tmp_path / "instances.json", content % ("0" * 308, "0" * 307))
    items = read_source("coco", tmp_path)
    assert [item.original_id for item in items] == ["1", "2", "1", "1", "1"]
    assert _causes(items) == {("region", "bad_box"): 2}
    assert [region.text for item in items for region in item.regions] == ["seven"]


def _table(path, names, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": name.encode() * 1000, "path": name} for name in names]
    pq.write_table(pa.table({"image": rows}), path, **options)


@pytest.mark.parametrize("pattern", ["**/*.parquet", "*.parquet"])
@pytest.mark.parametrize("folder", ["plain", "my [2024] set *"])
def test_a_folder_called_like_a_parquet_file_is_read_and_brackets_are_letters(tmp_path, folder, pattern):
    root = tmp_path / folder
    _table(root / "b.parquet/part-00000.snappy.parquet", "xy")
    write_file(root / "b.parquet/_SUCCESS", "")
    _table(root / "a.parquet", "z")
    items = read_source("parquet", root, files=pattern)
    assert [item.place.file for item in items] == ["a.parquet", *["b.parquet/part-00000.snappy.parquet"] * 2]
    with ImagePlaces(root) as found:
        assert [found.read(item.place)[:1] for item in items] == [b"z", b"x", b"y"]


def test_a_folder_called_like_a_tar_is_read_and_a_broken_link_told(tmp_path):
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "old.tar.gz").mkdir()
    with tarfile.open(tmp_path / "a.tar/1.tar", "w") as tar:
        add_member(tar, "x.jpg", b"x")
    (item,) = read_source("tars", tmp_path, files="*.tar")
    assert (item.original_id, item.place.file) == ("a.tar/1/x", "a.tar/1.tar")
    (tmp_path / "b.tar").symlink_to("nowhere")
    with pytest.raises(GranvitError, match=r"b\.tar: a broken link or no regular file"):
        read_source("tars", tmp_path)


def _damage(path, group, where):
    """Overwrite part of the image column of a row group, which is written in many small pages."""
    chunk = pq.read_metadata(path).row_group(group).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset + int(where * chunk.total_compressed_size)
    data[start : start + 3000] = b"\xff" * 3000
    path.write_bytes(data)


def test_a_damaged_parquet_page_costs_the_rest_of_its_row_group_only(tmp_path):
    rows = [{"bytes": os.urandom(2000), "path": str(i)} for i in range(120)]
    pq.write_table(
        pa.table({"image": rows}),
        tmp_path / "a.parquet",
        row_group_size=40,
        use_dictionary=False,
        write_batch_size=4,
        data_page_size=4000,
    )
    _damage(tmp_path / "a.parquet", 1, 0.5)
    items = read_source("parquet", tmp_path)
    with ImagePlaces(tmp_path) as found:

        def state(row):
            try:
                return found.read(items[row].place) == rows[row]["bytes"]
            except Rejected as cause:
                return str(cause)

        forward = [state(row) for row in range(120)]
        lost = forward.count("unreadable_file")
        assert 0 < lost < 40
        assert forward == [True] * (80 - lost) + ["unreadable_file"] * lost + [True] * 40
        assert [state(row) for row in reversed(range(120))] == forward[::-1]


def test_a_damaged_column_of_texts_is_told(tmp_path):
    words = [os.urandom(500).hex() for _ in range(200)]
    table = pa.table({"words": words, "image": [{"bytes": b"x", "path": "x"}] * 200})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, compression="zstd")
    _damage(tmp_path / "a.parquet", 0, 0.3)
    with pytest.raises(GranvitError, match=r"a\.parquet: no whole Parquet file .*fetch it again"):
        read_source("parquet", tmp_path, caption="words")


def test_only_regular_files_below_a_limit_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_LARGEST", 10)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "large.jpg").write_bytes(b"x" * 11)
    (tmp_path / "right.jpg").write_bytes(b"x" * 10)
    (tmp_path / "link.jpg").symlink_to("right.jpg")
    unreadable = [
        Place("pipe.jpg"),
        Place("zero.jpg"),
        Place("large.jpg"),
        Place("large.jpg", offset=0, size=11),
    ]
    with ImagePlaces(tmp_path) as found:
        for place in [*unreadable, Place("pipe.jpg", offset=0, size=1)]:
            with pytest.raises(Rejected, match="unreadable_file"):
                found.read(place)
        assert found.read(Place("link.jpg")) == b"x" * 10


def test_a_pipe_called_like_a_json_file_is_not_waited_for(tmp_path):
    (tmp_path / "a.jpg").touch()
    os.mkfifo(tmp_path / "a.json")
    (item,) = read_source("umg", tmp_path)
    assert item.place.problem == "broken_annotations"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROW.replace("Mine\t", "Total\t")], "line 2: name: 'Total' stands for something else"),
        ([ROW.replace("Mine\t", "ALL\t")], "line 2: name: 'ALL' stands"),
        ([ROW.replace("Mine\t", "none\t")], "line 2: name: 'none' stands"),
        ([ROW, ROW.replace("Mine\t", "MINE\t")], "line 3: names 'Mine' and 'MINE' differ in case only"),
        ([ROW.replace("\t2\t", "\t100001\t")], "line 2: shards: '100001' should be less than .* 100000"),
        ([ROW + "images=/data/x"], "images is '/data/x', outside the row's path 'data/Mine'.*relative"),
        ([ROW.replace("coco", "folder") + "images=a/../../x"], "images is 'a/../../x', outside"),
        ([ROW.replace("coco", "visual_genome") + "images=a, /b"], "images is 'a, /b', outside"),
        ([ROW.replace("coco", "tars") + "files=/x/*.tar"], r"files is '/x/\*\.tar', outside"),
    ],
)
def test_rows_that_cannot_go_well_are_refused_at_once(tmp_path, rows, told):
    with pytest.raises(GranvitError, match=told):
        read_sources(write_file(tmp_path / "s.tsv", "\n".join([HEADER, *rows])))


def test_the_largest_number_of_shards_and_options_inside_the_path_pass(tmp_path):
    row = ROW.replace("\t2\t", "\t100000\t") + "images=..a/../b"
    source = read_sources(write_file(tmp_path / "s.tsv", "\n".join([HEADER, row])))["Mine"]
    assert source.shard_names()[-1] == "99999"


def test_a_sources_file_of_another_encoding_is_told(tmp_path):
    (tmp_path / "s.tsv").write_bytes(f"{HEADER}\n{ROW.replace('UMG-41M', 'Café')}\n".encode("cp1252"))
    with pytest.raises(GranvitError, match=r"s\.tsv: byte \d+ is no UTF-8; save the file as UTF-8"):
        read_sources(tmp_path / "s.tsv")


@pytest.mark.parametrize("adapter", ["tars", "parquet"])
@pytest.mark.parametrize("pattern", ["a**.x", "/elsewhere/*.x"])
def test_a_pattern_that_is_none_is_told(tmp_path, adapter, pattern):
    write_coco(tmp_path / "raw")
    with pytest.raises(GranvitError, match=rf"option files is '{re.escape(pattern)}', which is no pattern"):
        list(ADAPTERS[adapter].read(tmp_path / "raw", {"files": pattern}))
