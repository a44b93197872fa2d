"""``granvit data inspect``: what it counts, what its pages hold, and what they never do."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile

import pytest
from conftest import ROOT
from data_worlds import (
    FOUND,
    REAL,
    blocks_picture,
    edit_coco,
    encode,
    image_bytes,
    ingest,
    prepare,
    spec,
    write_coco,
    write_file,
)
from html_pages import gallery_items, read
from PIL import Image

from granvit.cli import main
from granvit.config.loading import load_config
from granvit.data.records.filters import filter_shard
from granvit.data.records.pack import pack_shard
from granvit.data.records.records import Region, write_records
from granvit.data.records.shards import read_shard
from granvit.data.sources.catalogue import catalogue_source
from granvit.data.sources.ingest import ingest_shard
from granvit.reporting.inspection.findings import histograms
from granvit.reporting.inspection.pages import inspect
from granvit.reporting.inspection.reading import RawSource, Shards
from granvit.reporting.inspection.seen import Seen


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder that holds the project's settings and nothing else."""
    shutil.copytree(ROOT / "config", tmp_path / "project/config")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def config():
    return load_config("paper", root=ROOT)


def run(capsys, *arguments: str) -> dict:
    """What the command prints as JSON."""
    assert main(["data", "inspect", *map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def dirty_folder(root):
    """Files: what becomes of each is in its name."""
    root.mkdir()
    for name, data in {
        "kept a.jpg": encode(blocks_picture(1), "JPEG", quality=95),
        "kept b.jpg": encode(blocks_picture(2), "JPEG", quality=95),
        "kept c.png": encode(blocks_picture(3, (900, 700)), "PNG"),
        "near a.jpg": encode(blocks_picture(1).resize((600, 450)), "JPEG", quality=80),
        "small.png": encode(blocks_picture(5, (300, 200)), "PNG"),
        "wide.png": encode(Image.new("RGB", (3000, 460), "teal"), "PNG"),
        "cut.jpg": encode(blocks_picture(4), "JPEG")[:3000],
        "words.jpg": b"no image at all",
        "empty.jpg": b"",
        "photo.heic": b"\0\0\0\x18ftypheic" + bytes(600),
    }.items():
        (root / name).write_bytes(data)
    shutil.copy(root / "kept b.jpg", root / "same b.jpg")
    (root / "notes.txt").write_text("not an image, and no fault\n")
    return root


def test_each_file_of_a_dirty_folder_is_counted_once_and_by_its_cause(project, tmp_path, capsys):
    dirty_folder(tmp_path / "dirty")
    found = run(capsys, tmp_path / "dirty", "--scale", "paper")
    assert found["images"] == {
        "total": 11,
        "looked_at": 11,
        "kept": 5,
        "dropped": {"image_side": 1, "image_aspect": 1},
        "unreadable": {"corrupt_image": 1, "not_an_image": 1, "empty_image": 1, "not_read_here.heic": 1},
    }
    groups = {tuple(sorted(one["images"])): one["exact"] for one in found["duplicates"]}
    assert groups == {("kept b.jpg", "same b.jpg"): True, ("kept a.jpg", "near a.jpg"): False}
    states = {item["path"]: item["state"] for item in gallery_items(project / "inspect-dirty")}
    assert states["cut.jpg"] == "corrupt_image" and states["wide.png"] == "image_aspect"
    assert len(states) == 11 and "notes.txt" not in states
    text = read(project / "inspect-dirty/index.html").text
    assert "cut.jpg" in text and "2 groups" in text and "only the filters on images apply" in text
    assert all(
        item.get("copies") for item in gallery_items(project / "inspect-dirty") if "b.jpg" in item["path"]
    )


def test_the_counts_are_those_of_the_jobs_that_make_the_shards(tmp_path, config):
    """By raw data as by shards: what ingest and filters would do is what they do."""
    root = write_coco(tmp_path / "raw", images=9)
    (root / "images/8.jpg").write_bytes(b"broken")
    (root / "images/7.jpg").write_bytes(image_bytes("small", (600, 440)))

    def spoil(content):
        content["images"][7] |= {"width": 600, "height": 440}
        content["annotations"][0]["bbox"] = [10, 20, 40, 40]  # too small an area
        content["annotations"][3]["bbox"] = [10, 20, 590, 60]  # too flat
        content["annotations"][6]["bbox"] = [900, 20, 50, 60]  # outside
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 5]

    edit_coco(root, spoil)
    source = spec(root, captions="none")
    data = config.data.model_copy(update={"max_reject_share": 0.9, "max_cut_share": 0.9})
    with RawSource(source, data) as images:
        raw = inspect(images, "World", "natural", data, config.report, tmp_path / "pages", 100)
    catalogue, out = tmp_path / "c.sqlite", tmp_path / "made/ingested/World"
    catalogue_source(source, catalogue)
    ingest_shard(source, 0, catalogue, out / "00000.tar", out / "00000.rejects.csv", out / "00000.counts.csv",
                 max_pixels=10**8, max_reject_share=0.9, max_cut_share=0.9)  # fmt: skip
    steps = tmp_path / "made"
    (steps / "packed/World").mkdir(parents=True)
    (steps / "filtered").mkdir()
    filter_shard(out / "00000.tar", steps / "f.jsonl", steps / "f.csv", data.filters.natural)
    packed = steps / "packed/World/00000"
    pack_shard(
        out / "00000.tar", steps / "f.jsonl", packed.with_suffix(".tar"), packed.with_suffix(".parquet")
    )
    tars = [packed.with_suffix(".tar")]
    with Shards(tars, data, source) as images:
        made = inspect(images, "World", "natural", data, config.report, tmp_path / "pages2", 100)
    assert made.as_json()["images"] == raw.as_json()["images"]
    assert made.regions == raw.regions
    assert raw.dropped == {"image_side": 1, "regions": 1} and raw.problems == {"not_an_image": 1}
    with open(steps / "f.csv", newline="") as file:
        counts = {(row["mode"], row["rule"]): row for row in csv.DictReader(file)}
    everything = counts["sequence", "all"]
    assert raw.regions["kept"] == int(everything["regions_out"]) == 15
    assert raw.as_json()["images"]["kept"] == int(everything["images_out"]) == 6
    assert raw.regions["box_area"] == 1 and raw.regions["box_outside"] == 1 and raw.regions["box_aspect"] == 1
    with Shards(tars, data) as images:  # the folder alone, without the steps before
        alone = inspect(images, "packed", "natural", data, config.report, tmp_path / "pages3", 100)
    assert alone.as_json()["images"]["looked_at"] == 6 and alone.regions == {"kept": 15}


def test_a_limit_takes_the_same_images_each_time_and_says_so(project, tmp_path, capsys):
    root = write_coco(tmp_path / "raw", images=9)
    found = run(capsys, root, "--limit", "4")
    assert found["images"]["total"] == 9 and found["images"]["looked_at"] == 4
    taken = [item["key"] for item in gallery_items(project / "inspect-raw")]
    assert run(capsys, root, "--limit", "4", "--out", "other") and len(taken) == 4
    assert [item["key"] for item in gallery_items(project / "other")] == taken
    assert "4 of 9 images were looked at" in read(project / "other/index.html").text
    run(capsys, root, "--limit", "5", "--out", "other")
    assert set(taken) < {item["key"] for item in gallery_items(project / "other")}, (
        "more images: the same and others"
    )


def test_a_row_is_found_by_its_name_and_its_shards_where_they_are_made(project, tmp_path, capsys):
    root = write_coco(tmp_path / "raw", images=3)
    header = "name\tdata_type\tgroup\tuse\tadapter\tpath\tboxes\tcaptions\ttext\tshards"
    row = f"# photographs\nMine\tnatural\tMine\tpretrain\tcoco\t{root}\tgiven\tgiven\tgiven\t1"
    write_file(project / "config/sources_mine.tsv", f"{header}\n{row}\n")
    assert "raw data" in run(capsys, "Mine")["what"]
    prepare(spec(root, name="Mine"), tmp_path / "data")
    (project / "results/mini").mkdir(parents=True)
    shutil.copytree(tmp_path / "data", project / "results/mini/data")
    found = run(capsys, "Mine")
    assert "shards in results/mini/data, from ingest on" in found["what"] and found["images"]["kept"] == 3
    assert "raw data" in run(capsys, "Mine", "--raw")["what"]
    found = run(capsys, "results/mini/data/packed/Mine")
    assert "shards in results/mini/data/packed/Mine" in found["what"] and found["regions"] == {"kept": 9}


def test_a_mistake_is_one_line_and_makes_no_folder(project, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    (project / "inspect-photos").mkdir()
    (project / "inspect-photos/mine.txt").write_text("keep")
    photos = write_coco(tmp_path / "photos", images=1)
    for arguments, told in {
        ("Nope",): "neither a folder nor a source of config/sources_mini.tsv",
        ("Scene",): "did you mean 'Scenes'?",
        ("Scenes",): "its data are absent",
        (tmp_path / "none",): "no images in it (it is empty)",
        (photos,): "is there, and no inspection made it; give another folder in --out",
        (photos, "--limit", "0"): "--limit is 0; expected 1 or more",
        (photos, "--adapter", "cocoa"): "there is no such adapter; they are coco, folder",
        (photos, "--scale", "tiny"): "'tiny' is not a scale",
    }.items():
        assert main(["data", "inspect", *map(str, arguments)]) == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(error) == 1 and told in error[0], error
    assert (project / "inspect-photos/mine.txt").read_text() == "keep"
    assert sorted(path.name for path in project.iterdir()) == ["config", "inspect-photos"]


def test_an_earlier_inspection_is_replaced_whole(project, tmp_path, capsys):
    run(capsys, write_coco(tmp_path / "a", images=4), "--out", "pages")
    run(capsys, write_coco(tmp_path / "b", images=2), "--out", "pages")
    assert len(list((project / "pages/images").iterdir())) == 2
    assert not list(project.glob(".pages*"))


def test_bars_hold_every_value_once_and_know_where_a_filter_cuts(config):
    seen = [Seen(str(n), "", width=width, height=500) for n, width in enumerate((448, 500, 1024, 4000, 20))]
    by_name = {one.name: one for one in histograms(seen, config.data.filters.natural)}
    side = by_name["Shorter side of images"]
    assert side.n == 5 and (side.minimum, side.median, side.maximum) == (20, 500, 500)
    assert side.edges[0] <= 20 and side.edges[-1] > 500 and side.limits == [448]
    shape = by_name["Width by height of images"]
    assert shape.n == 5 and shape.limits == [pytest.approx(1 / 3), 3.0]
    assert "Boxes an image" not in by_name and len(shape.counts) <= 24
    captions = [Seen(str(n), "", width=9, height=9, caption="x" * (n % 50 + 1)) for n in range(300)]
    captions.append(Seen("long", "", width=9, height=9, caption="x" * 90_000))
    (length,) = [h for h in histograms(captions, config.data.filters.natural) if "caption" in h.name]
    assert length.n == 301 and length.open_end and length.label(len(length.counts) - 1).endswith("or more")
    assert max(length.counts) < 60, "one long caption does not push all others into one bar"


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "coco128").is_dir(), reason="../shared/real/coco128 is not there")
def test_real_photographs_are_counted_as_the_filters_do(project, capsys):
    found = run(capsys, REAL / "coco128", "--scale", "paper")
    assert found["images"] | {"dropped": 0} == {
        "total": 128, "looked_at": 128, "kept": 61, "dropped": 0, "unreadable": {},
    }  # fmt: skip
    assert sum(found["regions"].values()) == 929


def test_sources_without_boxes_yet_are_judged_by_their_images_alone(tmp_path, config):
    (tmp_path / "raw/images").mkdir(parents=True)
    (tmp_path / "raw/images/a.jpg").write_bytes(image_bytes("a"))
    with RawSource(spec(tmp_path / "raw", adapter="folder", **FOUND), config.data) as images:
        found = inspect(images, "World", "natural", config.data, config.report, tmp_path / "pages", 9)
    assert found.as_json()["images"]["kept"] == 1


def test_what_a_model_annotated_is_shown_with_what_it_lost(tmp_path, config):
    """A source whose boxes OCR found: its records stand between ingest and filters."""
    (tmp_path / "raw").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / f"raw/{name}.jpg").write_bytes(image_bytes(name))
    how = {"data_type": "ocr", "adapter": "folder", "boxes": "ocr", "captions": "none", "text": "ocr"}
    source = spec(tmp_path / "raw", **how)
    data = tmp_path / "results/mini/data"
    tar = ingest(source, data)
    records = [sample.record for sample in read_shard(tar)]
    records[0].regions = [Region([1, 2, 60, 30], "TOTAL", 0.9), Region([1, 40, 60, 70], "RM 5", 0.8)]
    write_records(data / "annotated/World/00000.jsonl", records[:2])
    rejects = f"{records[0].key},region,ocr_score,1,a.jpg\n{records[2].key},image,caption_refused,0,c.jpg\n"
    write_file(data / "annotated/World/00000.rejects.csv", "key,what,cause,regions,path\n" + rejects)
    packed = data / "packed/World/00000.tar"
    packed.parent.mkdir(parents=True)
    shutil.copy(tar, packed)
    with Shards([packed], config.data, source) as images:
        found = inspect(images, "World", "ocr", config.data, config.report, tmp_path / "pages", 9)
    assert found.regions == {"kept": 2, "ocr_score": 1}
    assert found.dropped == {"regions": 1} and found.problems == {"caption_refused": 1}
    (kept,) = [item for item in gallery_items(tmp_path / "pages") if item["state"] == "kept"]
    assert [region[4] for region in kept["regions"]] == ["TOTAL", "RM 5"]
    assert kept["lost"] == ["region: ocr_score"]


def test_to_look_at_addresses_fetches_nothing(project, tmp_path, capsys):
    header = "name\tdata_type\tgroup\tuse\tadapter\tpath\tboxes\tcaptions\ttext\tshards\toptions"
    row = (
        f"Web\tnatural\tWeb\tpretrain\turls\t{tmp_path / 'web'}\tdetector\tnone\tcaptioner\t1\tlist=urls.txt"
    )
    write_file(project / "config/sources_web.tsv", f"{header}\n{row}\n")
    write_file(tmp_path / "web/urls.txt", "http://127.0.0.1:9/a.jpg\n")
    assert main(["data", "inspect", "Web"]) == 1
    assert "none of its images is fetched yet, and to look starts no download" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["urls.txt"]
    assert main(["data", "inspect", str(tmp_path / "web"), "--adapter", "urls"]) == 1
    assert "there is no such adapter" in capsys.readouterr().err
    (tmp_path / "web/tars").mkdir()
    with tarfile.open(tmp_path / "web/tars/00000.tar", "w") as tar:
        (tmp_path / "a.jpg").write_bytes(image_bytes("a"))
        tar.add(tmp_path / "a.jpg", "000000000.jpg")
    assert run(capsys, "Web")["images"]["kept"] == 1
