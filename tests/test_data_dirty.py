"""Dirty input: each file and box is handled right, or rejected and counted by its cause."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_worlds import FOUND, add_member, encode, ingest, prepare, read_csv, spec
from dirty_boxes import BROKEN_UTF8, DIRTY_BOXES, dump
from dirty_corpus import MARK, MAX_PIXELS, SIZE, dirty_images, picture, write_files

from granvit.config.data import FilterRules
from granvit.data.records.fingerprints import perceptual_hash
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import make_key
from granvit.data.records.shards import read_image_bytes, read_shard

# pytest sets aside the filter that the package installs; a test below shows it at work.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

IMAGES = dirty_images()
LATER_PAGES = Counter({("page", "later_page"): 2})  # of pages.tif
NO_RULES = FilterRules(
    min_image_side=None, image_aspect=None, box_aspect=None, min_box_area=None, min_regions=0
)


class DirtyWorld:
    """A COCO source of all dirty images and boxes, and what has to become of each, by the corpus alone."""

    def __init__(self, root: Path):
        self.root = root
        write_files(root / "images", IMAGES)
        (root / "images/folder.jpg").mkdir()
        self.content = {"images": [], "annotations": [], "categories": []}
        self.kept: dict[str, list[tuple]] = {}  # boxes by the image's id
        self.causes: Counter[tuple[str, str]] = Counter()
        self.regions_lost = self.regions = 0
        for name, dirty in IMAGES.items():
            self._add(name, name, dirty.cause)
        for name, cause in {
            "/etc/passwd": "path_outside_source",
            "../../secret.jpg": "path_outside_source",
            "a/../../../secret.jpg": "path_outside_source",
            "../instances.json": "not_an_image",
            "folder.jpg": "unreadable_file",
            "zero\0byte.jpg": "unreadable_file",
            f"{BROKEN_UTF8}.jpg": "broken_name",
            "": "no_image",
        }.items():
            self._add(f"by name {name}".replace(BROKEN_UTF8, "broken"), name, cause)
        self._add("plain.jpg", "plain.jpg", "duplicate_id")
        self._add("of another size", "plain.jpg", "stated_size_differs", width=640)
        self._add_boxes()
        self._annotate("an image that is not listed")
        self.causes["image", "no_image"] += 1
        self.regions_lost += 1
        (root / "instances.json").write_bytes(dump(self.content))

    def _add(self, image_id: str, name: str, cause: str | None, width: int = SIZE[0]) -> None:
        self.content["images"].append({"id": image_id, "file_name": name, "width": width, "height": SIZE[1]})
        duplicate = cause == "duplicate_id"
        if not duplicate:  # the annotations of an id belong to the first image that has it
            self._annotate(image_id)
        if cause:
            self.causes["image", cause] += 1
            self.regions_lost += not duplicate
        else:
            self.kept[image_id] = [MARK]

    def _annotate(self, image_id: str) -> None:
        x1, y1, x2, y2 = MARK
        annotation = {"image_id": image_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "caption": "mark"}
        self.content["annotations"].append(annotation)
        self.regions += 1

    def _add_boxes(self) -> None:
        for box in DIRTY_BOXES:
            annotation = {"image_id": "plain.jpg", "bbox": box.bbox, "caption": box.text}
            self.content["annotations"].append(annotation | {"iscrowd": int(box.crowd)})
            self.regions += 1
            if box.cause:
                self.causes["region", box.cause] += 1
            if not box.kept:
                self.regions_lost += 1
            else:
                self.kept["plain.jpg"].append(box.kept)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> DirtyWorld:
    return DirtyWorld(tmp_path_factory.mktemp("dirty") / "raw")


@pytest.fixture(scope="module")
def prepared(world, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    source = spec(world.root, shards=3, captions="none")
    for shard in range(3):
        ingest(source, out, shard, max_pixels=MAX_PIXELS)
    prepare(source, out, NO_RULES)
    return out


def _table(out: Path, step: str, ending: str) -> list[dict[str, str]]:
    return [row for path in sorted(out.glob(f"{step}/World/*.{ending}.csv")) for row in read_csv(path)]


def _sum(rows: list[dict[str, str]], column: str) -> int:
    return sum(int(row[column]) for row in rows)


def test_every_dirty_sample_is_kept_or_rejected_by_its_own_cause(world, prepared):
    records = {
        sample.record.key: sample
        for path in prepared.glob("ingested/World/*.tar")
        for sample in read_shard(path)
    }
    assert set(records) == {make_key("World", image_id) for image_id in world.kept}
    for image_id, boxes in world.kept.items():
        sample = records[make_key("World", image_id)]
        assert [tuple(region.box) for region in sample.record.regions] == boxes
        assert sample.image == (world.root / "images" / image_id).read_bytes()
        assert ("picture" in sample.record.provenance) == IMAGES[image_id].several
        assert sample.record.phash == perceptual_hash(decode_rgb(sample.image))
    rejects = _table(prepared, "ingested", "rejects")
    assert Counter((row["what"], row["cause"]) for row in rejects) == world.causes + LATER_PAGES


def test_images_and_regions_in_equal_kept_plus_rejected_in_the_written_files(world, prepared):
    rejects, (counts) = _table(prepared, "ingested", "rejects"), _table(prepared, "ingested", "counts")
    images_lost = sum(row["what"] == "image" for row in rejects)
    assert _sum(counts, "images_in") == _sum(counts, "images_out") + images_lost
    assert _sum(counts, "regions_in") == _sum(counts, "regions_out") + _sum(rejects, "regions")
    # ... and what came in and was lost is what the corpus holds:
    assert (
        _sum(counts, "images_in") == len(world.content["images"]) + 1
    )  # one is named by an annotation alone
    assert (_sum(counts, "regions_in"), _sum(rejects, "regions")) == (world.regions, world.regions_lost)
    # ... and each step takes over what the one before it left.
    annotated = _table(prepared, "annotated", "counts")
    outcome = [row for row in annotated if row["rule"] == "annotate"]
    lost = _sum(_table(prepared, "annotated", "rejects"), "regions")
    assert _sum(outcome, "images_in") == _sum(counts, "images_out")
    assert _sum(outcome, "regions_out") == _sum(counts, "regions_out") - lost
    filtered = [row for row in _table(prepared, "filtered", "counts") if row["rule"] == "all"]
    assert _sum(filtered, "images_in") == _sum(outcome, "images_out")
    assert _sum(filtered, "regions_in") == _sum(outcome, "regions_out")
    rows = [
        row for path in prepared.glob("packed/World/*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == _sum(filtered, "images_out") == len(world.kept)
    assert sum(len(row["regions"]) for row in rows) == _sum(filtered, "regions_out")


def test_packed_box_lies_on_the_mark_of_the_image_as_shown(world, prepared):
    looked_at = 0
    for path in prepared.glob("packed/World/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            shown = decode_rgb(read_image_bytes(path.with_suffix(".tar"), row["offset"], row["size"]))
            inside = shown.crop(tuple(map(round, row["regions"][0]["box"]))).convert("L")
            around = shown.crop((60, 40, 96, 64)).convert("L")
            dullest = inside.getextrema()[0]
            assert dullest > 150, row["key"]
            assert abs(dullest - around.getextrema()[1]) > 20, row["key"]
            looked_at += 1
    assert looked_at == len(world.kept)


def test_dirty_input_leaves_no_warning_and_no_open_file_in_a_process_of_its_own(world, tmp_path):
    script = Path(__file__).with_name("ingest_alone.py")
    command = [sys.executable, "-X", "dev", "-W", "always", str(script), str(world.root), str(tmp_path), "2"]
    environment = os.environ | {"PYTHONPATH": str(script.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith(("ingest World", "catalogue"))]
    assert (said, done.stdout.strip()) == ([], "0")


def test_file_names_of_any_kind_are_kept_or_counted(tmp_path):
    root = tmp_path / "raw"
    files = {name: image for name, image in IMAGES.items() if image.picture}
    write_files(root / "images", files)
    (root / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(encode(picture(), "PNG"))
    tar = ingest(spec(root, adapter="folder", **FOUND), tmp_path / "out")
    expected = {make_key("World", name) for name in files}
    assert {sample.record.key for sample in read_shard(tar)} == expected
    rejects = read_csv(tar.with_suffix(".rejects.csv"))
    found = Counter((row["what"], row["cause"]) for row in rejects)
    assert found == LATER_PAGES + Counter({("image", "broken_name"): 1})


def _hostile_members() -> list[tarfile.TarInfo]:
    members = []
    for name, kind, target in [
        ("/tmp/absolute.jpg", tarfile.REGTYPE, ""),
        ("../up.jpg", tarfile.REGTYPE, ""),
        ("a/../../../up.jpg", tarfile.REGTYPE, ""),
        ("symbolic.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("hard.jpg", tarfile.LNKTYPE, "../../secret.jpg"),
        ("pipe.jpg", tarfile.FIFOTYPE, ""),
        ("disk.jpg", tarfile.BLKTYPE, ""),
    ]:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        members.append(member)
    return members


def _write_dirty_tars(root: Path) -> tuple[set[str], Counter[tuple[str, str]], int]:
    """Tars of all dirty images with one region each, hostile members, broken JSON, and a tar that is cut off.

    The names kept, the causes of the rest, and how many regions went in.
    """
    root.mkdir()
    kept, causes = set(), Counter()
    entry = dump({"regions": [{"box": MARK, "text": "mark"}], "caption": "a mark"})
    there = [image for image in IMAGES.values() if image.data is not None]
    with tarfile.open(root / "a.tar", "w") as tar:
        for number, dirty in enumerate(there):
            add_member(tar, f"{number:03d}.jpg", dirty.data)
            add_member(tar, f"{number:03d}.json", entry)
            if dirty.cause:
                causes["image", dirty.cause] += 1
            else:
                kept.add(f"a/{number:03d}")
        for member in _hostile_members():
            tar.addfile(member)
        causes.update(
            {("image", "path_outside_source"): 3, ("image", "link_in_tar"): 2, ("image", "device_in_tar"): 2}
        )
        add_member(tar, "000.jpg", there[0].data)
        add_member(tar, "000.json", entry)
        causes["image", "duplicate_id"] += 1
        add_member(tar, "broken json.jpg", there[0].data)
        add_member(tar, "broken json.json", b"{'box'")
        causes["image", "broken_annotations"] += 1
        add_member(tar, "alone.json", entry)
        causes["image", "no_image"] += 1
    with tarfile.open(root / "b.tar", "w") as tar:
        for number in range(4):
            add_member(tar, f"{number}.jpg", there[0].data)
            cut = tar.offset - 100  # in the last image that is added
            add_member(tar, f"{number}.json", entry)
    with open(root / "b.tar", "r+b") as file:
        file.truncate(cut - cut % 512)
    kept |= {f"b/{number}" for number in range(3)}
    causes["image", "truncated_tar"] += 1
    return kept, causes, len(there) + 2 + 3


def test_hostile_and_broken_tars_cost_their_bad_members_only_and_unpack_nothing(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(encode(picture(), "JPEG"))
    root = tmp_path / "world" / "raw"
    root.parent.mkdir()
    kept, causes, regions = _write_dirty_tars(root)
    before = sorted(tmp_path.rglob("*"))
    source = spec(root, adapter="tars", shards=2)
    tars = [ingest(source, tmp_path / "out", shard, max_pixels=MAX_PIXELS) for shard in range(2)]
    assert (
        sorted(path for path in tmp_path.rglob("*") if tmp_path / "out" not in [path, *path.parents])
        == before
    )
    samples = [sample for tar in tars for sample in read_shard(tar)]
    assert {sample.record.key for sample in samples} == {make_key("World", name) for name in kept}
    for sample in samples:
        assert [tuple(region.box) for region in sample.record.regions] in ([MARK], [])
    rejects = _table(tmp_path / "out", "ingested", "rejects")
    counts = _table(tmp_path / "out", "ingested", "counts")
    assert Counter((row["what"], row["cause"]) for row in rejects) == causes + LATER_PAGES
    images_lost = sum(row["what"] == "image" for row in rejects)
    assert _sum(counts, "images_in") == _sum(counts, "images_out") + images_lost == len(kept) + images_lost
    assert _sum(counts, "regions_in") == _sum(counts, "regions_out") + _sum(rejects, "regions") == regions
