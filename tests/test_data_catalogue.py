"""The catalogue: each image of a source once, with its key and shard, whatever the size and order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from data_worlds import FOUND, REAL, add_member, edit_coco, image_bytes, spec, write_coco, write_llava

from granvit.data.records.records import hash_key
from granvit.data.sources.catalogue import catalogue_source, count_items, read_catalogue
from granvit.data.sources.places import ImagePlaces
from granvit.errors import GranvitError


def _catalogue(source, out: Path) -> Path:
    catalogue_source(source, out / "c.sqlite")
    return out / "c.sqlite"


def _all(source, out: Path) -> list:
    sqlite = _catalogue(source, out)
    return [row for shard in range(source.shards) for row in read_catalogue(sqlite, shard)]


def _write_tars(root: Path, counts: list[int]) -> Path:
    root.mkdir(parents=True)
    for number, count in enumerate(counts):
        with tarfile.open(root / f"{number:05d}.tar", "w") as tar:
            for i in range(count):
                add_member(tar, f"{i}.jpg", image_bytes(f"{number}/{i}"))
    return root


def test_each_loose_image_is_in_the_shard_of_its_keys_hash_sorted_by_key(tmp_path):
    source = spec(write_coco(tmp_path / "raw", images=30, boxes=2), shards=4)
    sqlite = _catalogue(source, tmp_path)
    found = []
    for shard in range(4):
        rows = list(read_catalogue(sqlite, shard))
        assert count_items(sqlite, shard) == len(rows)
        keys = [key for key, _, _ in rows]
        assert keys == sorted(keys)
        assert all(hash_key(key) % 4 == shard for key in keys)
        found += keys
        assert [len(item.regions) for _, item, _ in rows] == [2] * len(rows)
    assert sorted(found) == sorted(f"World__{i}" for i in range(30))


def test_the_catalogue_is_the_same_bytes_whatever_the_sources_order(tmp_path):
    first, second = write_coco(tmp_path / "a"), write_coco(tmp_path / "b")
    edit_coco(
        second,
        lambda content: (content["images"].reverse(), content.update(annotations=content.pop("annotations"))),
    )
    for name, root in (("1", first), ("2", second)):
        (tmp_path / name).mkdir()
        _catalogue(replace(spec(root), path=str(root)), tmp_path / name)
    assert (tmp_path / "1/c.sqlite").read_bytes() == (tmp_path / "2/c.sqlite").read_bytes()


def test_annotations_before_their_images_and_of_no_image(tmp_path):
    root = write_coco(tmp_path / "raw", images=2, boxes=1)
    edit_coco(
        root,
        lambda content: (
            content["annotations"].append({"image_id": 77, "category_id": 1, "bbox": [0, 0, 5, 5]}),
            content.update(images=content.pop("images")),
        ),
    )
    assert list(json.loads((root / "instances.json").read_text())) == ["annotations", "categories", "images"]
    rows = {key: item for key, item, _ in _all(spec(root), tmp_path)}
    assert [len(item.regions) for item in rows.values()] == [1, 1, 1]
    assert (rows["World__0"].place.file, rows["World__77"].place) == ("images/0.jpg", None)


def test_of_two_images_with_one_id_neither_gets_the_boxes(tmp_path):
    root = write_coco(tmp_path / "raw", images=2, boxes=1)
    edit_coco(root, lambda content: content["images"].append({"id": 1, "file_name": "0.jpg"}))
    rows = [
        (key, duplicate, len(item.regions), item.place.file, [reject.cause for reject in item.rejects])
        for key, item, duplicate in _all(spec(root), tmp_path)
    ]
    assert rows == [
        ("World__0", False, 1, "images/0.jpg", []),
        ("World__1", False, 0, "images/1.jpg", ["duplicate_id"]),
        ("World__1", True, 0, "images/0.jpg", []),
    ]


def test_an_image_that_is_listed_twice_keeps_its_boxes(tmp_path):
    root = write_coco(tmp_path / "raw", images=2, boxes=1)
    edit_coco(root, lambda content: content["images"].append(content["images"][1]))
    rows = [(key, duplicate, len(item.regions)) for key, item, duplicate in _all(spec(root), tmp_path)]
    assert rows == [("World__0", False, 1), ("World__1", False, 1), ("World__1", True, 0)]


def test_captions_that_are_given_but_nowhere_found_stop_the_source(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_member(tar, "x.input.jpg", image_bytes("x"))
        add_member(tar, "x.outputs.txt", b"a caption")
    source = spec(tmp_path, adapter="tars", **(FOUND | {"captions": "given"}))
    with pytest.raises(GranvitError, match="captions is 'given', but adapter 'tars' found no caption"):
        catalogue_source(source, tmp_path / "c.sqlite")
    assert not (tmp_path / "c.sqlite").exists()


def test_all_entries_about_an_image_meet_in_one_item_in_their_order(tmp_path):
    root = write_llava(tmp_path / "raw", images=2)
    entries = json.loads((root / "conversations.json").read_text())
    again = {
        "image": "0.png",
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
    }
    (root / "conversations.json").write_text(json.dumps([*entries, again]))
    rows = _all(spec(root, adapter="llava", data_type="instruction", use="sft", captions="none"), tmp_path)
    assert [[turn.question for turn in item.conversations] for _, item, _ in rows] == [
        ["What is it?", "Sure?", "Q"],
        ["What is it?", "Sure?"],
    ]
    assert [duplicate for _, _, duplicate in rows] == [False, False]


def test_tars_are_dealt_whole_and_read_from_start_to_end(tmp_path):
    source = spec(_write_tars(tmp_path / "raw", [3, 12, 2, 4]), adapter="tars", shards=3, **FOUND)
    sqlite = _catalogue(source, tmp_path)
    places = [[item.place for _, item, _ in read_catalogue(sqlite, shard)] for shard in range(3)]
    files = [sorted({place.file for place in shard}) for shard in places]
    assert files == [["00000.tar", "00003.tar"], ["00001.tar"], ["00002.tar"]]
    for shard in places:
        assert [(p.file, p.offset) for p in shard] == sorted((p.file, p.offset) for p in shard)
    with ImagePlaces(source.root) as images:
        assert images.read(places[1][11]) == image_bytes("1/11")


def test_a_duplicate_in_another_shard_is_found(tmp_path):
    root = tmp_path / "raw"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(
            pa.table({"id": ["x", name], "image": [image_bytes("x"), image_bytes(name)]}),
            root / name / "t.parquet",
        )
    source = spec(root, adapter="parquet", options="id=id", shards=2, **FOUND)
    sqlite = _catalogue(source, tmp_path)
    rows = [[(key, duplicate) for key, _, duplicate in read_catalogue(sqlite, shard)] for shard in range(2)]
    assert rows == [[("World__x", False), ("World__a", False)], [("World__x", True), ("World__b", False)]]


def test_regions_without_text_are_left_to_the_captioner_or_rejected(tmp_path):
    root = write_coco(tmp_path / "raw", images=1, boxes=1)
    edit_coco(
        root,
        lambda content: content["annotations"].append(
            {"image_id": 0, "category_id": 9, "bbox": [0, 0, 5, 5]}
        ),
    )
    ((_, given, _),) = _all(spec(root), tmp_path)
    assert [(r.what, r.cause, r.regions) for r in given.rejects] == [("region", "no_text", 1)]
    assert len(given.regions) == 1
    ((_, captioned, _),) = _all(spec(root, text="captioner"), tmp_path)
    assert [region.text for region in captioned.regions] == ["thing 0 of 0", ""]
    assert captioned.rejects == []


def test_boxes_that_are_given_but_nowhere_found_stop_the_source(tmp_path):
    root = write_coco(tmp_path / "raw", images=3, boxes=0)
    with pytest.raises(
        GranvitError, match=r"'World': boxes is 'given', but adapter 'coco' found no box in .*raw"
    ):
        catalogue_source(spec(root), tmp_path / "c.sqlite")
    catalogue_source(spec(root, **FOUND), tmp_path / "c.sqlite")


def test_names_that_are_no_unicode_are_rejected_under_a_key_that_shows_their_bytes(tmp_path):
    (tmp_path / "raw/images").mkdir(parents=True)
    with open(os.fsencode(tmp_path / "raw/images") + b"/caf\xe9.jpg", "wb") as file:
        file.write(image_bytes("a"))
    ((key, item, _),) = _all(
        spec(tmp_path / "raw", adapter="folder", text="none", boxes="none", captions="none"), tmp_path
    )
    assert (key, item.place.problem) == ("World__caf=5Cudce9=2Ejpg", "broken_name")


def test_an_absent_source_says_its_row_its_path_and_how_to_fetch_it(tmp_path):
    absent = spec(tmp_path / "nowhere", fetch="hf download a/b", origin="hf.co/a/b", row="s.tsv, line 3")
    with pytest.raises(GranvitError) as error:
        _catalogue(absent, tmp_path)
    for part in (
        "s.tsv, line 3",
        "'World'",
        str(tmp_path / "nowhere"),
        "`hf download a/b`",
        "hf.co/a/b",
        "docs/data.md",
    ):
        assert part in str(error.value)
    with pytest.raises(GranvitError, match=r"'World'.*absent.*Put them there"):
        _catalogue(spec(tmp_path / "nowhere"), tmp_path)


def test_an_empty_source_leaves_no_catalogue_and_says_where_it_looked(tmp_path):
    for adapter in ("folder", "tars", "parquet", "umg"):
        (tmp_path / adapter / "images").mkdir(parents=True)
        with pytest.raises(
            GranvitError, match=rf"'World': no images found in .*{adapter}.*'{adapter}'.*`options`"
        ):
            _catalogue(spec(tmp_path / adapter, adapter=adapter), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    with pytest.raises(GranvitError, match="no such catalogue"):
        list(read_catalogue(tmp_path / "none.sqlite", 0))


def _write_large(path: Path, images: int) -> None:
    """About 1 KB an image: its entry and five annotations, which stand far from it."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"images": [')
        file.write(
            ",".join(
                json.dumps({"id": i, "file_name": f"{i:09d}.jpg", "width": 640, "height": 480})
                for i in range(images)
            )
        )
        file.write('], "annotations": [')
        for number in range(5 * images):
            annotation = {
                "id": number,
                "image_id": number % images,
                "bbox": [1.5, 2.25, 100, 80.125],
                "category_id": 1,
            }
            file.write(
                ("," if number else "") + json.dumps(annotation | {"caption": f"region {number} " + "x" * 60})
            )
        file.write('], "categories": [{"id": 1, "name": "thing"}]}')


def _peak_memory(source_root: Path, out: Path) -> int:
    """Kilobytes that a process of its own took to catalogue a source, with SQLite's caches kept at 1 MB."""
    code = (
        "import resource, sys; sys.path[:0] = sys.argv[3:]; from data_worlds import spec; "
        "from granvit.data.sources import catalogue; catalogue._CACHE = 'cache_size = -1024'; "
        "catalogue.catalogue_source(spec(sys.argv[1], shards=8, captions='none'), sys.argv[2]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", code, source_root, out, here, here.parent]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path):
    peaks = {}
    for images in (1_500, 7_500):  # the reader's own buffer is full with the first
        root = tmp_path / str(images)
        root.mkdir()
        _write_large(root / "instances.json", images)
        peaks[images] = _peak_memory(root, root / "c.sqlite")
    # 5.5 MB more file, which would take some 50 MB as Python objects.
    assert peaks[7_500] - peaks[1_500] < 10 * 1024


def test_a_killed_catalogue_leaves_nothing_under_its_name_and_the_next_cleans_up(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    _write_large(root / "instances.json", 1_000)
    out, whole = tmp_path / "out/c.sqlite", tmp_path / "whole/c.sqlite"
    code = (
        "import sys; sys.path[:0] = sys.argv[3:]; from data_worlds import spec; "
        "from granvit.data.sources.catalogue import catalogue_source; "
        "catalogue_source(spec(sys.argv[1], captions='none'), sys.argv[2])"
    )
    here = Path(__file__).resolve().parent
    killed = subprocess.Popen([sys.executable, "-c", code, root, out, here, here.parent])
    while not list(out.parent.glob(".c.sqlite.*")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert (out.exists(), bool(list(out.parent.iterdir()))) == (False, True)
    for path in (out, whole):
        catalogue_source(spec(root, captions="none"), path)
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["c.sqlite"]


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data beside the checkout")
def test_coco128_and_sroie_are_catalogued_as_they_are(tmp_path):
    rows = _all(spec(REAL / "coco128", shards=3, captions="none"), tmp_path)
    content = json.loads((REAL / "coco128/instances.json").read_text())
    assert len(rows) == len(content["images"]) == 128
    assert sum(len(item.regions) for _, item, _ in rows) == len(content["annotations"]) == 929
    rows = _all(spec(REAL / "sroie", adapter="line_boxes", data_type="ocr", captions="none"), tmp_path)
    lines = [
        line
        for path in (REAL / "sroie/box").iterdir()
        for line in path.read_text().splitlines()
        if line.strip()
    ]
    texts = sorted(region.text for _, item, _ in rows for region in item.regions)
    assert texts == sorted(line.split(",", 8)[8].strip() for line in lines)
    with ImagePlaces(REAL / "sroie") as places:
        assert all(places.read(item.place) for _, item, _ in rows)
