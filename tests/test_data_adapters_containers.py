"""Images inside tars and Parquet files: read by their places, once, and never unpacked."""

from __future__ import annotations

import json
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import add_member, image_bytes, read_source

from granvit.data.records.records import Rejected
from granvit.data.sources.items import Place
from granvit.data.sources.places import ImagePlaces
from granvit.errors import GranvitError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _problems(items):
    return {item.original_id: item.place.problem for item in items if item.place and item.place.problem}


def _cause(root, place):
    with ImagePlaces(root) as places, pytest.raises(Rejected) as cause:
        places.read(place)
    return str(cause.value)


def test_a_tars_images_are_read_at_their_places_with_what_lies_beside_them(tmp_path):
    images = {name: image_bytes(name) for name in ("0", "1", "2", "3")}
    entry = {
        "caption": "of the json",
        "regions": [{"box": [1, 2, 3, 4], "text": "a"}],
        "width": 600,
        "height": 500,
    }
    (tmp_path / "part").mkdir()
    with tarfile.open(tmp_path / "part/00000.tar", "w") as tar:
        add_member(tar, "0.txt", b" caption \n")
        add_member(tar, "0.jpg", images["0"])
        add_member(tar, "a/1.JPG", images["1"])
        add_member(tar, "a/1.json", json.dumps(entry).encode())
        add_member(tar, "2.json", b"{broken")
        add_member(tar, "2.png", images["2"])
        add_member(tar, "folder", type=tarfile.DIRTYPE)
        add_member(tar, "3.txt", b"caf\xe9")
        add_member(tar, "3.left.jpg", images["3"])
        add_member(tar, "4.txt", b"no image")
        add_member(tar, "5.json", json.dumps({"conversations": [{"question": "Q ", "answer": "A"}]}).encode())
        add_member(tar, "6.json", json.dumps({"conversations": []}).encode())
    items = {item.original_id: item for item in read_source("tars", tmp_path)}
    prefix = "part/00000/"
    assert list(items) == [prefix + name for name in ("0", "a/1", "2", "3", "4", "5", "6")]
    with ImagePlaces(tmp_path) as places:
        for name, sample in (("0", "0"), ("1", "a/1"), ("3", "3")):
            assert places.read(items[prefix + sample].place) == images[name]
    zero, one, two, three, four, five, six = items.values()
    assert (zero.caption, one.caption) == ("caption", "of the json")
    assert (one.regions[0].box, one.stated_size) == ([1, 2, 3, 4], (600, 500))
    assert (two.place.problem, two.rejects) == ("broken_annotations", [])
    assert [reject.cause for reject in three.rejects] == ["broken_text"]
    assert four.place is None
    assert [(turn.question, turn.answer) for turn in five.conversations] == [("Q ", "A")]
    assert (six.conversations, six.rejects) == ([], [])


def test_members_that_point_elsewhere_are_counted_and_never_followed(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "raw/t.tar", "w") as tar:
        add_member(tar, "good.jpg", b"good")
        add_member(tar, str(secret), b"absolute")
        add_member(tar, "../secret.jpg", b"upwards")
        add_member(tar, "a/../../b.jpg", b"upwards")
        add_member(tar, "soft.jpg", type=tarfile.SYMTYPE, linkname=str(secret))
        add_member(tar, "hard.jpg", type=tarfile.LNKTYPE, linkname="good.jpg")
        add_member(tar, "device.jpg", type=tarfile.CHRTYPE)
        add_member(tar, "pipe.jpg", type=tarfile.FIFOTYPE)
    items = read_source("tars", tmp_path / "raw")
    assert [item.original_id for item in items if not item.place.problem] == ["t/good"]
    assert sorted(_problems(items).values()) == [
        *["device_in_tar"] * 2,
        *["link_in_tar"] * 2,
        *["path_outside_source"] * 3,
    ]
    for item in (item for item in items if item.place.problem):
        assert _cause(tmp_path / "raw", item.place) == item.place.problem
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["raw", "secret.jpg", "t.tar"]


@pytest.mark.parametrize("extensions", [("jpg", "jpg"), ("jpg", "json", "jpg"), ("jpg", "png")])
def test_names_that_come_twice_make_an_item_an_image_all_of_one_id(tmp_path, extensions):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for extension in extensions:
            add_member(tar, f"a.{extension}", b"{}")
        add_member(tar, "b.jpg", b"b")
        add_member(tar, "a.jpg", b"a")
    ids = [item.original_id for item in read_source("tars", tmp_path)]
    assert ids == ["t/a"] * len([e for e in extensions if e != "json"]) + ["t/b", "t/a"]


@pytest.mark.parametrize("cut", ["in an image", "in a header", "before the end marks", "damaged header"])
def test_a_cut_tar_costs_its_tail_only(tmp_path, cut):
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        for name in "abc":
            add_member(tar, f"{name}.jpg", name.encode() * 2000)
    with tarfile.open(path) as tar:
        last = tar.getmember("c.jpg")
    data = bytearray(path.read_bytes())
    if cut == "damaged header":
        data[last.offset : last.offset + 512] = b"x" * 512
    else:
        end = {
            "in an image": last.offset_data + 700,
            "in a header": last.offset + 100,
            "before the end marks": last.offset,
        }
        del data[end[cut] :]
    path.write_bytes(data)
    items = read_source("tars", tmp_path)
    assert [item.original_id for item in items] == ["t/a", "t/b", "t/cut"]
    assert _problems(items) == {"t/cut": "truncated_tar"}


def test_a_tar_that_shrank_after_it_was_catalogued_is_noticed(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        add_member(tar, "a.jpg", b"a" * 2000)
    (item,) = read_source("tars", tmp_path)
    (tmp_path / "t.tar").write_bytes((tmp_path / "t.tar").read_bytes()[:1000])
    assert _cause(tmp_path, item.place) == "truncated_tar"


def test_empty_and_foreign_and_compressed_tars(tmp_path):
    (tmp_path / "empty.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    assert _problems(read_source("tars", tmp_path)) == {"empty/cut": "truncated_tar"}
    (tmp_path / "text.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(GranvitError, match=r"text\.tar: no uncompressed tar"):
        read_source("tars", tmp_path)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        add_member(tar, "a.jpg", b"a")
    with pytest.raises(GranvitError, match=r"x\.tar\.gz: .*gunzip"):
        read_source("tars", tmp_path)


def _parquet(path, columns, metadata=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": metadata}})})
    pq.write_table(table, path, **options)


def _images(names):
    return pa.array([{"bytes": image_bytes(name), "path": None} for name in names], IMAGE)


def test_parquet_rows_are_read_at_their_places_in_any_order(tmp_path):
    names = [f"{i}" for i in range(50)]
    _parquet(tmp_path / "data/train-0.parquet", {"id": names, "image": _images(names)}, row_group_size=7)
    items = read_source("parquet", tmp_path)
    assert items[13].original_id == "data/train-0/13"
    assert items[13].place == Place("data/train-0.parquet", row=13, column="image")
    order = [*range(50), 49, 0, 20, 6, 7, 48]
    with ImagePlaces(tmp_path) as places:
        for row in order:
            assert places.read(items[row].place) == image_bytes(names[row])


def test_what_a_parquet_file_says_comes_from_the_columns_that_options_name(tmp_path):
    columns = {
        "image": _images("abcd"),
        "uid": ["a", "b", None, "d"],
        "text": [" A ", None, "C", "D"],
        "objects": [
            {"bbox": [[1.0, 2, 3, 4], [5, 6, 7, 8]], "label": ["x", "y"]},
            {"bbox": [[1.0, 2, 3]], "label": ["short"]},
            None,
            {"bbox": [[1.0, 2, 3, 4]], "label": []},
        ],
        "turns": [[{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]] * 2 + [None, []],
        "w": [9, 9, 9, 9],
        "h": [8, 8, 8, 8],
    }
    _parquet(tmp_path / "a.parquet", columns)
    options = {
        "id": "uid",
        "caption": "text",
        "boxes": "objects.bbox",
        "texts": "objects.label",
        "box_format": "xywh",
    }
    items = read_source("parquet", tmp_path, **options, conversations="turns", width="w", height="h")
    assert [item.original_id for item in items] == ["a", "b", "a.parquet/2", "d"]
    assert items[2].place.problem == "no_id"
    assert (items[0].caption, items[1].caption, items[0].stated_size) == ("A", None, (9, 8))
    assert [(r.box, r.text) for r in items[0].regions] == [([1, 2, 4, 6], "x"), ([5, 6, 12, 14], "y")]
    assert [[reject.cause for reject in item.rejects] for item in items] == [
        [],
        ["bad_box"],
        [],
        ["unpaired_text", "bad_conversation"],
    ]
    assert items[0].conversations[0].answer == "A"


def test_lists_of_images_are_counted_without_reading_them(tmp_path, monkeypatch):
    pages = pa.array(
        [[{"bytes": image_bytes(f"{d}{p}"), "path": None} for p in range(d)] for d in (2, 0, 1)],
        pa.list_(IMAGE),
    )
    _parquet(
        tmp_path / "d.parquet",
        {"images": pages, "texts": [["q"], [], ["r"]]},
        {"images": [{"_type": "Image"}]},
    )
    read = []
    plain = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda *a, **k: (read.append(k["columns"]), plain(*a, **k))[1]
    )
    items = read_source("parquet", tmp_path)
    assert [item.original_id for item in items] == ["d/0/0", "d/0/1", "d/1", "d/2/0"]
    assert read == [["images.list.element.path"]]
    with ImagePlaces(tmp_path) as places:
        assert places.read(items[1].place) == image_bytes("21")
        assert places.read(items[3].place) == image_bytes("10")
    assert items[2].place is None  # which ingest counts as no_image


def test_a_row_without_bytes_or_with_broken_text_costs_itself(tmp_path):
    rows = [{"bytes": None, "path": "elsewhere.jpg"}, None, {"bytes": image_bytes("x"), "path": "x"}]
    text = pa.array([b"fine", b"fine", b"caf\xe9"], pa.binary()).view(pa.string())
    _parquet(tmp_path / "a.parquet", {"image": pa.array(rows, IMAGE), "text": text})
    items = read_source("parquet", tmp_path, caption="text")
    assert [_cause(tmp_path, item.place) for item in items[:2]] == ["missing_image", "no_image"]
    assert [item.caption for item in items] == ["fine", "fine", None]
    assert [reject.cause for reject in items[2].rejects] == ["broken_text"]


def test_the_image_column_is_found_or_asked_for(tmp_path):
    plain = {"jpg": [image_bytes("a")], "mask": [b"m"]}
    _parquet(tmp_path / "two/a.parquet", plain)
    with pytest.raises(GranvitError, match=r"several columns hold images \(jpg, mask\).*option `image`"):
        read_source("parquet", tmp_path / "two")
    (item,) = read_source("parquet", tmp_path / "two", image="jpg")
    with ImagePlaces(tmp_path / "two") as places:
        assert places.read(item.place) == image_bytes("a")
    _parquet(tmp_path / "hf/a.parquet", plain, {"jpg": {"_type": "Image"}, "mask": {"_type": "Value"}})
    assert len(read_source("parquet", tmp_path / "hf")) == 1
    _parquet(tmp_path / "none/a.parquet", {"text": ["x"]})
    with pytest.raises(GranvitError, match=r"no column holds image bytes.*columns: text"):
        read_source("parquet", tmp_path / "none")
    with pytest.raises(GranvitError, match=r"no column 'x'.*option `caption`.*jpg, mask"):
        read_source("parquet", tmp_path / "two", image="jpg", caption="x")
    (tmp_path / "two/b.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(GranvitError, match=r"b\.parquet: no whole Parquet file.*fetch it again"):
        read_source("parquet", tmp_path / "two", image="jpg")


def test_parquet_is_read_from_any_address_that_fsspec_opens(tmp_path):
    _parquet(tmp_path / "train.parquet", {"image": _images("ab")})
    memory = fsspec.filesystem("memory")
    memory.pipe("/granvit/data/train.parquet", (tmp_path / "train.parquet").read_bytes())
    items = read_source("parquet", "memory://granvit/data")
    assert [item.place.file for item in items] == ["train.parquet"] * 2
    with ImagePlaces("memory://granvit/data") as places:
        assert places.read(items[1].place) == image_bytes("b")
        memory.rm("/granvit/data/train.parquet")
    with (
        ImagePlaces("memory://granvit/data") as places,
        pytest.raises(GranvitError, match="cannot be read.*run again"),
    ):
        places.read(items[1].place)


def test_an_address_that_cannot_be_listed_is_told():
    with pytest.raises(GranvitError, match=r"http://127\.0\.0\.1:9/x: cannot be listed.*hf auth login"):
        read_source("parquet", "http://127.0.0.1:9/x")
