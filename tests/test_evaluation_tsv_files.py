"""VLMEvalKit's TSV files are read as they are: images in every form that the toolkit writes, and streamed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_world import base64_picture, picture, write_tsv

from granvit.errors import GranvitError
from granvit.evaluation.tsv_files import file_md5, read_images, read_rows, split_of

ROOT = Path(__file__).parent.parent


def test_rows_that_refer_to_another_rows_image_share_it(tmp_path):
    red, blue = base64_picture("red"), base64_picture("blue")
    file = write_tsv(tmp_path / "t.tsv", [
        {"index": 5, "image": 6, "question": "a"},
        {"index": 6, "image": red, "question": "b"},
        {"index": 7, "image": f"['{red}', '{blue}']", "question": "c"},
    ])  # fmt: skip
    rows = read_rows(file)
    assert rows[0].images == rows[1].images and rows[2].images[0] == rows[1].images[0]
    assert [data for _, data in read_images(file)] == [picture("red"), picture("blue")]


def test_images_may_be_files_beside_the_tsv(tmp_path):
    folder = tmp_path / "images" / "MMBench"  # the toolkit's name for the folder of MMBench_DEV_EN
    folder.mkdir(parents=True)
    for colour in ("red", "blue"):
        (folder / f"{colour}.png").write_bytes(picture(colour))
    file = write_tsv(tmp_path / "MMBench_DEV_EN.tsv", [
        {"index": 1, "image_path": "red.png", "question": "a"},
        {"index": 2, "image_path": "['red.png', 'blue.png']", "question": "b"},
        {"index": 3, "image_path": str(folder / "blue.png"), "question": "c"},
    ])  # fmt: skip
    one, two, three = read_rows(file)
    assert two.images == one.images + three.images
    assert dict(read_images(file)) == {one.images[0]: picture("red"), three.images[0]: picture("blue")}


def test_base64_counts_where_there_is_a_path_too(tmp_path):
    row = {"index": 1, "image": base64_picture("red"), "image_path": "not_there.png", "question": "a"}
    file = write_tsv(tmp_path / "t.tsv", [row, {"index": 2, "image": 1, "question": "b"}])
    assert [data for _, data in read_images(file)] == [picture("red")]
    assert read_rows(file)[0].cells["image_path"] == "not_there.png"


def test_a_row_without_an_image_is_skipped_as_the_toolkit_skips_it(tmp_path):
    rows = [{"index": i, "image": image, "question": "q"} for i, image in enumerate(["", "nan"])]
    file = write_tsv(
        tmp_path / "t.tsv", [*rows, {"index": 2, "image": base64_picture("red"), "question": "q"}]
    )
    assert [row.index for row in read_rows(file)] == ["2"]


def test_a_cell_that_pandas_takes_for_empty_is_no_option(tmp_path):
    row = {"index": 1, "image": base64_picture("red"), "question": "q", "A": "x", "B": "None", "C": "N/A"}
    cells = read_rows(write_tsv(tmp_path / "t.tsv", [row]))[0].cells
    assert cells["A"] == "x" and not {"B", "C"} & cells.keys()


def test_cells_may_hold_line_breaks_quotes_and_any_script(tmp_path):
    image = base64_picture("red")
    text = "\ufeffindex\timage\tquestion\n1\t" + image + '\t"Was steht\nda: ""東京"" – où?"\n'
    (tmp_path / "t.tsv").write_text(text, encoding="utf-8")
    assert read_rows(tmp_path / "t.tsv")[0].cells["question"] == 'Was steht\nda: "東京" – où?'


def test_refcoco_rows_are_named_by_split_and_keep_their_own_images(tmp_path):
    rows = [
        {"index": 0, "image": base64_picture(colour), "question": "q", "split": split}
        for colour, split in (("red", "RefCOCO_val"), ("blue", "RefCOCO+_val"))
    ]
    rows.append({"index": 1, "image": "RefCOCO+_val_0", "question": "q", "split": "RefCOCO+_val"})
    red, blue, shared = read_rows(write_tsv(tmp_path / "RefCOCO.tsv", rows))
    assert (red.index, blue.index) == ("RefCOCO_val_0", "RefCOCO+_val_0")
    assert red.images != blue.images == shared.images


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"index": 1, "image": "9", "question": "q"}], "neither base64 nor the index"),
        ([{"index": 1, "image": "x" * 80, "question": ""}], "line 2: question is empty"),
        ([{"index": 1, "image": "x" * 80}], "column.s. question missing"),
        ([{"index": 1, "question": "q"}], "column.s. image missing"),
        ([{"index": 1, "image": "['x', " + "y" * 80 + "]", "question": "q"}], "row 1: image is no list"),
        ([{"index": 1, "image": "x" * 80, "question": "q"}] * 2, "index 1 stands twice"),
        ([{"index": 1, "image_path": "a.png", "question": "q"}], "row 1: image_path is 'a.png'.*images/t;"),
    ],
)
def test_a_broken_tsv_is_refused_by_row_and_column(tmp_path, rows, message):
    with pytest.raises(GranvitError, match=message):
        read_rows(write_tsv(tmp_path / "t.tsv", rows))


def test_a_list_of_images_is_read_as_text_and_never_run(tmp_path):
    image = f"[open({str(tmp_path / 'made')!r}, 'w').write('{'x' * 80}')]"
    file = write_tsv(tmp_path / "t.tsv", [{"index": 1, "image": image, "question": "q"}])
    with pytest.raises(GranvitError, match="no list of texts"):
        read_rows(file)
    assert not (tmp_path / "made").exists()


def test_a_file_cut_off_in_the_middle_is_refused(tmp_path):
    row = {"index": 1, "image": base64_picture("red"), "question": "q", "answer": "a"}
    file = write_tsv(tmp_path / "t.tsv", [row, {**row, "index": 2}])
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(GranvitError, match="line 3: .*fetch the file again"):
        read_rows(file)


def test_the_md5_is_that_of_the_file_as_it_is_now(tmp_path):
    file = tmp_path / "t.tsv"
    file.write_bytes(b"abc")
    assert file_md5(file) == "900150983cd24fb0d6963f7d28e17f72"
    file.write_bytes(b"abcd")
    assert file_md5(file) == "e2fc714c4727ee9395f324cd2e7f331f"


def test_reading_a_large_file_takes_the_memory_of_a_row_not_of_the_file(tmp_path):
    """240 MB in 60 rows; a reader that held the file, or all base64, would need as much."""
    with open(tmp_path / "large.tsv", "w", encoding="utf-8") as file:
        file.write("index\timage\tquestion\n")
        for number in range(60):
            file.write(f"{number}\t{'ABCD' * 1_000_000}{number:04d}\tq\n")
    script = (
        "import resource, sys, pathlib\n"
        "from granvit.evaluation.tsv_files import file_md5, read_images, read_rows\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "path, before = pathlib.Path(sys.argv[1]), peak()\n"
        "file_md5(path), read_rows(path)\n"
        "images = sum(1 for _ in read_images(path))\n"
        "print(images, peak() - before)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "large.tsv")]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    images, megabytes = done.stdout.split()
    assert int(images) == 60 and float(megabytes) < 80


@pytest.mark.parametrize(
    ("category", "split"),
    [
        ("RefCOCO testA", "RefCOCO_testA"),
        ("RefCOCO+ test_b", "RefCOCO+_testB"),
        ("RefCOCOg  VAL", "RefCOCOg_val"),
        ("RefCOCOg test-x y", "RefCOCOg_test_x_y"),
        ("RefCOCO", "RefCOCO"),
        ("", "RefCOCO"),
    ],
)
def test_refcocos_split_is_read_out_of_its_category(category, split):
    assert split_of(category) == split


def test_a_refcoco_file_without_splits_has_those_of_its_categories(tmp_path):
    row = {"image": base64_picture("red"), "question": "q"}
    rows = [{"index": 4, **row, "category": "RefCOCO testA"}, {"index": 4, **row, "category": "RefCOCO+ val"}]
    path = write_tsv(tmp_path / "RefCOCO.tsv", rows)
    assert [question.index for question in read_rows(path)] == ["RefCOCO_testA_4", "RefCOCO+_val_4"]
    other = write_tsv(tmp_path / "Other.tsv", rows[:1])
    assert [question.index for question in read_rows(other)] == ["4"]
