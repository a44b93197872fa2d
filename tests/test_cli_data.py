"""``granvit data``: exports and counts from the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from data_worlds import SOURCE_COLUMNS, prepare, spec, write_coco, write_file, write_llava
from PIL import Image

from granvit.cli import main


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    chat = spec(
        write_llava(folder / "c", images=5),
        name="Chat",
        adapter="llava",
        data_type="instruction",
        use="sft",
        captions="none",
    )
    made = prepare(spec(write_coco(folder / "n"), shards=2), folder) + prepare(chat, folder)
    return [str(index) for index in made]


def test_export_makes_the_folder_and_says_how_many_images(indexes, tmp_path, capsys):
    for form, file in (("llava", "conversations.json"), ("coco", "instances.json")):
        assert main(["data", "export", "--format", form, *indexes[:2], str(tmp_path / form)]) == 0
        assert "12 images" in capsys.readouterr().out
        assert (tmp_path / form / file).is_file()
        assert len(list((tmp_path / form / "images").iterdir())) == 12


def test_export_takes_the_folder_by_its_name_and_sources(indexes, tmp_path, capsys):
    out = str(tmp_path / "o")
    call = ["data", "export", "--format", "llava", "--source", "Chat", "--out", out, *indexes]
    assert main(call) == 0
    assert capsys.readouterr().out.endswith(f"{out}: 5 images\n")
    assert main(["data", "export", "--format", "coco", indexes[0]]) == 1
    assert "give shards or mixtures, and the folder in --out" in capsys.readouterr().err


def test_summary_counts_what_each_source_holds(indexes, capsys):
    assert main(["data", "summary", "--json", *indexes]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "World": {"images": 12, "captions": 12, "regions": 36, "turns": 0},
        "Chat": {"images": 5, "captions": 0, "regions": 0, "turns": 10},
    }
    assert main(["data", "summary", *indexes]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["source", "images", "captions", "regions", "turns"]
    assert lines[-1] == ["all", "17", "12", "36", "10"]
    both = [*indexes, *(index.replace(".parquet", ".tar") for index in indexes)]  # as packed/Mine/* gives
    assert main(["data", "summary", *both]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == lines


def test_mistake_is_one_line_and_status_1(indexes, tmp_path, capsys):
    assert main(["data", "summary", str(tmp_path / "none.parquet")]) == 1
    assert main(["data", "export", "--format", "coco", indexes[0], str(tmp_path)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in errors] == [True, True]
    assert "none.parquet" in errors[0] and "exists already" in errors[1]


def test_summary_needs_no_torch(indexes):
    code = "import sys; from granvit.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, "data", "summary", *indexes]).returncode == 0


def _sources_file(folder, *rows):
    lines = ["\t".join(SOURCE_COLUMNS), *("\t".join(row) for row in rows)]
    (folder / "sources.tsv").write_text("\n".join(lines) + "\n")
    return str(folder / "sources.tsv")


def test_boxes_are_drawn_in_both_frames_where_they_are(tmp_path, capsys):
    chat = tmp_path / "chat"
    (chat / "images").mkdir(parents=True)
    Image.new("RGB", (512, 256), "white").save(chat / "images" / "a.png")
    turns = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "[0.25, 0.375, 0.75, 0.625]"}]
    write_file(chat / "conversations.json", [{"image": "a.png", "conversations": turns}])
    row = ["Chat", "instruction", "I", "sft", "llava", str(chat), "none", "none", "none", "1", ""]
    sources = _sources_file(tmp_path, row)
    assert main(["data", "boxes", "Chat", "-n", "3", "--sources", sources, "--out", str(tmp_path / "o")]) == 0
    told = capsys.readouterr().out
    assert "of 1 boxes in turns about images that are not square, 0 would lie in the padding" in told
    with Image.open(tmp_path / "o" / "001.png") as page:
        assert page.size == (1024, 272)
        edges = {(x, y): page.getpixel((x, y)) != (255, 255, 255) for x in (300, 812) for y in (112, 80)}
    # 16 rows of title; the box's upper edge in rows 96 of the original's frame, and 64 of the padded square's
    assert edges == {(300, 112): True, (300, 80): False, (812, 112): False, (812, 80): True}


def test_regions_are_drawn_and_counted_by_format(tmp_path, capsys):
    root = write_coco(tmp_path / "raw", images=3)
    row = ["Mine", "natural", "Mine", "pretrain", "coco", str(root), "given", "given", "given", "2", ""]
    sources = _sources_file(tmp_path, row)
    assert main(["data", "boxes", "Mine", "-n", "2", "--sources", sources, "--out", str(tmp_path / "o")]) == 0
    assert "xywh 9, " in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["001.png", "002.png"]


def test_boxes_of_a_source_that_is_not_there_is_one_line(tmp_path, capsys):
    row = ["Mine", "natural", "Mine", "pretrain", "coco", "x", "given", "given", "given", "2", ""]
    sources = _sources_file(tmp_path, row)
    assert main(["data", "boxes", "Nope", "--sources", sources]) == 1
    assert "no source 'Nope'" in capsys.readouterr().err
