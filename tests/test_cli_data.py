"""``granvit data``: exports and counts from the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from data_worlds import prepare, spec, write_coco, write_llava

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
