"""``granvit data new``: the row for what lies in a folder, and the line for what lies in none."""

from __future__ import annotations

import numpy as np
import pytest
from data_layouts import LAYOUTS, ONE_IMAGE, pages, photographs, write_yolo
from data_worlds import (
    REAL,
    image_bytes,
    write_coco,
    write_file,
)
from PIL import Image

from granvit.cli import main
from granvit.data.sources.catalogue import catalogue_source, read_catalogue
from granvit.data.sources.table import read_sources


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__.removeprefix("write_"))
def test_the_row_reads_all_that_lies_in_the_folder(write, tmp_path, capsys):
    expected, boxes, captions = LAYOUTS[write]
    write(tmp_path / "my data")
    out = tmp_path / "mine.tsv"
    assert main(["data", "new", str(tmp_path / "my data"), "--out", str(out)]) == 0
    (source,) = read_sources(out).values()
    assert source.name == "my_data"
    found = (source.data_type, source.adapter, source.boxes, source.captions, source.text, source.options)
    assert found == expected
    catalogue_source(source, tmp_path / "c.sqlite")
    read = [item for _, item, _ in read_catalogue(tmp_path / "c.sqlite", 0)]
    assert all(item.place and not item.place.problem for item in read)
    assert sum(len(item.regions) for item in read) == boxes
    assert sum(item.caption is not None for item in read) == captions
    notes = [line for line in out.read_text().splitlines() if line.startswith("#")]
    assert f"{len(read)} images, {captions} captions, {boxes} boxes" in notes[0]
    assert notes[0] in capsys.readouterr().out


def test_what_could_not_be_decided_is_said(tmp_path, capsys):
    photographs(tmp_path / "photos")
    for at in range(2):
        write_file(tmp_path / f"photos/{at}.txt", "a view of something")
    assert main(["data", "new", str(tmp_path / "photos"), "--out", str(tmp_path / "mine.tsv")]) == 0
    undecided = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# undecided: ")]
    assert any("2 texts such as 0.txt lie under their images' names" in line for line in undecided)
    assert any("boxes detector, text captioner" in line for line in undecided)
    photographs(tmp_path / "mixed")
    pages(tmp_path / "mixed/scans")
    assert main(["data", "new", str(tmp_path / "mixed"), "--out", str(tmp_path / "m.tsv")]) == 0
    assert "photographs and pages are mixed; make two rows" in capsys.readouterr().out


def test_a_file_is_never_overwritten_unasked_and_rows_can_be_added(tmp_path, capsys):
    write_coco(tmp_path / "photos", images=2)
    pages(tmp_path / "scans")
    out = str(tmp_path / "mine.tsv")
    assert main(["data", "new", str(tmp_path / "photos"), "--out", out]) == 0
    before = (tmp_path / "mine.tsv").read_bytes()
    assert main(["data", "new", str(tmp_path / "scans"), "--out", out]) == 1
    assert (tmp_path / "mine.tsv").read_bytes() == before
    assert "--add adds the row to it, --force replaces it" in capsys.readouterr().err
    assert main(["data", "new", str(tmp_path / "scans"), "--out", out, "--add"]) == 0
    sources = read_sources(out)
    assert list(sources) == ["photos", "scans"] and sources["scans"].boxes == "ocr"
    assert main(["data", "new", str(tmp_path / "scans"), "--out", out, "--add"]) == 1
    assert "name 'scans' is given twice" in capsys.readouterr().err
    assert list(read_sources(out)) == list(sources)
    assert main(["data", "new", str(tmp_path / "scans"), "--out", out, "--force", "--name", "Bills"]) == 0
    assert list(read_sources(out)) == ["Bills"]
    assert not list(tmp_path.glob(".mine*"))


def test_a_row_is_added_to_a_file_with_other_columns(tmp_path):
    write_coco(tmp_path / "photos", images=2)
    header = "name\tdata_type\tgroup\tuse\tadapter\tpath\tlicence\tboxes\tcaptions\ttext\tshards"
    row = "Old\tnatural\tOld\tpretrain\tcoco\told\tmit\tgiven\tgiven\tgiven\t1"
    write_file(tmp_path / "mine.tsv", f"{header}\n{row}")
    out = str(tmp_path / "mine.tsv")
    assert main(["data", "new", str(tmp_path / "photos"), "--out", out, "--add"]) == 0
    sources = read_sources(out)
    assert sources["photos"].boxes == "given" and sources["Old"].licence == "mit"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none"], "none: does not exist; give a folder of images, or of shards"),
        (["file.txt"], "file.txt: is no folder"),
        (["empty"], "empty: no images in it (it is empty); give the folder that holds them"),
        (["notes"], "notes: no images in it (1 .txt, 1 .pdf); give the folder"),
        (["both"], "both: holds several things: coco (instances.json holds COCO's images and"),
        (["tars"], "tars: holds several things: tars (1 tars such as a.tar); folder (2 images"),
        (["photos", "--adapter", "coca"], "--adapter coca: there is no such adapter; they are coco, folder"),
        (["photos", "--adapter", "coco"], "photos/instances.json: missing or not readable"),
        (["photos", "--name", "a/b"], "source 'a/b': names folders: use letters, digits, - and _ only; give"),
    ],
)  # fmt: skip
def test_a_folder_that_gives_no_row_is_one_line(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_file(tmp_path / "file.txt", "words")
    (tmp_path / "empty").mkdir()
    write_file(tmp_path / "notes/notes.txt", "words")
    write_file(tmp_path / "notes/paper.pdf", "%PDF-1.4")
    write_yolo(tmp_path / "both")
    write_file(tmp_path / "both/instances.json", ONE_IMAGE)
    photographs(tmp_path / "tars")
    (tmp_path / "tars/a.tar").write_bytes(bytes(10240))
    photographs(tmp_path / "photos")
    assert main(["data", "new", *arguments]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and told in errors[0], errors
    assert not (tmp_path / "sources.tsv").exists()


def test_of_several_things_the_named_one_is_taken(tmp_path, capsys):
    write_yolo(tmp_path / "both")
    write_file(tmp_path / "both/instances.json", ONE_IMAGE)
    out = tmp_path / "mine.tsv"
    assert main(["data", "new", str(tmp_path / "both"), "--adapter", "yolo", "--out", str(out)]) == 0
    assert read_sources(out)["both"].options == "classes=pets.yaml"


def test_a_path_stays_as_it_was_given_in_the_projects_folder(tmp_path, monkeypatch):
    write_coco(tmp_path / "photos", images=2)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "new", "photos"]) == 0
    assert read_sources("sources.tsv")["photos"].path == str(tmp_path / "photos")
    write_file(tmp_path / "config/config.yaml", "scale: mini")
    assert main(["data", "new", "photos", "--force"]) == 0
    assert read_sources("sources.tsv")["photos"].path == "photos"


def test_noise_and_paper_are_told_apart():
    from granvit.data.sources.proposal import _is_page

    random = np.random.default_rng(0)
    assert _is_page(Image.new("RGB", (60, 80), "white"))
    assert not _is_page(Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)))
    assert not _is_page(Image.new("RGB", (60, 80), "orange")) and not _is_page(Image.new("RGB", (9, 9)))


@pytest.mark.skipif(not (REAL / "sroie").is_dir(), reason="../shared/real is not there")
def test_real_photographs_and_receipts_get_their_rows(tmp_path):
    out = str(tmp_path / "mine.tsv")
    assert main(["data", "new", str(REAL / "coco128"), "--out", out]) == 0
    assert main(["data", "new", str(REAL / "sroie"), "--out", out, "--add"]) == 0
    sources = read_sources(out)
    assert [(s.data_type, s.adapter, s.boxes) for s in sources.values()] == [
        ("natural", "coco", "given"), ("ocr", "line_boxes", "given"),
    ]  # fmt: skip


def test_comments_stand_anywhere_in_a_table_and_lines_keep_their_numbers(tmp_path):
    header = "name\tdata_type\tgroup\tuse\tadapter\tpath\tboxes\tcaptions\ttext\tshards"
    row = "Mine\tnatural\tM\tpretrain\tcoco\tp\tgiven\tnone\tgiven\t1"
    path = write_file(tmp_path / "s.tsv", f"# first\n\n{header}\n# a\ttab\n{row}\n\n# last\n")
    assert read_sources(path)["Mine"].row == f"{path}, line 5"
    path.write_text(path.read_text() + row.replace("Mine", "Two") + "\tmore\n")
    with pytest.raises(Exception, match=r"line 8: more values than columns"):
        read_sources(path)


def test_tables_and_outlines_that_are_no_boxes_are_not_taken_for_some(tmp_path, capsys):
    photographs(tmp_path / "photos")
    write_file(tmp_path / "photos/meta/sizes.csv", "1,2,3,4,5,6,7,8,9\n")
    assert main(["data", "new", str(tmp_path / "photos"), "--out", str(tmp_path / "a.tsv")]) == 0
    assert read_sources(tmp_path / "a.tsv")["photos"].adapter == "folder"
    outline = {"shapes": [{"label": "cat", "points": [[1, 2], [3, 4], [5, 6], [7, 8]]}], "imagePath": "0.jpg"}
    photographs(tmp_path / "outlined")
    write_file(tmp_path / "outlined/0.json", outline)
    assert main(["data", "new", str(tmp_path / "outlined"), "--out", str(tmp_path / "b.tsv")]) == 0
    told = capsys.readouterr().out
    assert "no list of boxes in it; its fields are shapes, imagePath" in told and "box=points" not in told


def test_names_that_are_no_unicode_are_counted_and_break_nothing(tmp_path):
    photographs(tmp_path / "photos")
    try:
        (tmp_path / "photos" / b"a\xff.jpg".decode("utf-8", "surrogateescape")).write_bytes(image_bytes("a"))
        (tmp_path / "photos" / b"a\xff.txt".decode("utf-8", "surrogateescape")).write_text("words")
    except OSError:
        pytest.skip("this disk takes names of Unicode alone")
    assert main(["data", "new", str(tmp_path / "photos"), "--out", str(tmp_path / "a.tsv")]) == 0
    text = (tmp_path / "a.tsv").read_text(encoding="utf-8")
    assert "left out while reading: broken_name 1" in text and "a\\udcff.txt" in text
