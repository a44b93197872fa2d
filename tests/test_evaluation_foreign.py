"""Predictions that other toolkits wrote, scored as this project's own."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from benchmark_world import ROOT, make_answers, make_data, picture, write_rows
from evaluation_world import toy_benchmark

from granvit.errors import GranvitError
from granvit.evaluation.answer_files import read_answers
from granvit.evaluation.benchmarks import find_benchmark, load_benchmarks
from granvit.evaluation.export import export_vlmevalkit
from granvit.evaluation.foreign import convert
from granvit.evaluation.xlsx import read_sheet, write_sheet

BENCHMARKS = load_benchmarks(ROOT / "config" / "benchmarks.tsv")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All benchmarks, one model's answers, and what was exported of them."""
    folder = tmp_path_factory.mktemp("world")
    data = make_data(folder / "data")
    make_answers(folder / "answers", data, "one")
    export_vlmevalkit(folder / "answers", BENCHMARKS, data, folder / "tsv", "tiny")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def as_xlsx(path: Path, rows: list[dict[str, str]]) -> None:
    write_sheet(path, [list(rows[0]), *(list(row.values()) for row in rows)])


def as_columns(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text(json.dumps({key: {str(i): row[key] for i, row in enumerate(rows)} for key in rows[0]}))


KINDS = {
    ".tsv": None,
    ".xlsx": as_xlsx,
    ".json": lambda path, rows: path.write_text(json.dumps(rows)),
    " of columns.json": as_columns,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_is_read_back_as_it_was(world, tmp_path, kind):
    for path in (world / "tsv").iterdir():
        copy = tmp_path / f"{path.stem}{Path(kind).suffix or kind}"
        KINDS[kind](copy, rows_of(path)) if KINDS[kind] else copy.write_bytes(path.read_bytes())
    made = convert(tmp_path, "vlmevalkit", BENCHMARKS, world / "data", tmp_path / "out")
    assert made == BENCHMARKS
    for benchmark in BENCHMARKS:
        ours = read_answers(world / "answers" / f"{benchmark.slug}.jsonl")
        assert read_answers(tmp_path / "out" / f"{benchmark.slug}.jsonl") == ours


GQA = [find_benchmark(BENCHMARKS, "GQA")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a_GQA_TestDev_Balanced.tsv",
            "index\tprediction\n0\tx\n",
            "7 of 8 questions of GQA have no answer .*1",
        ),
        ("a_GQA_TestDev_Balanced.tsv", "index\tprediction\n0\tx\n0\ty\n", "row 3: index 0 stands twice"),
        ("a_GQA_TestDev_Balanced.tsv", "index\tanswer\n0\tx\n", "row 2: no column index or prediction"),
        ("a_GQA_TestDev_Balanced.xlsx", "no zip", "not an Excel file with a sheet"),
        ("a_GQA_TestDev_Balanced.json", "[1, 2]", "expected a list of rows or a table of columns"),
        ("a_GQA_TestDev_Balanced.json", "{", "not JSON in UTF-8"),
    ],
)
def test_a_file_that_is_not_the_toolkits_is_named(world, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(GranvitError, match=f"{name}: {message}"):
        convert(tmp_path, "vlmevalkit", GQA, world / "data", tmp_path / "out")


def test_two_files_that_may_both_be_meant_are_named(world, tmp_path):
    for name in ("a_GQA_TestDev_Balanced.tsv", "b_GQA_TestDev_Balanced.xlsx"):
        (tmp_path / name).write_text("")
    with pytest.raises(GranvitError, match="a_GQA_.*tsv, b_GQA_.*xlsx may all be GQA's; leave one"):
        convert(tmp_path, "vlmevalkit", GQA, world / "data", tmp_path / "out")


def samples(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sample(number: int, doc: dict | None = None, said: str = "x", **more: object) -> dict:
    answered = {"resps": [[said]], "filtered_resps": [said]}
    return {"doc_id": number, "doc": doc or {}, "target": "y", **answered, **more}


@pytest.fixture
def toy(tmp_path):
    """Three questions of a benchmark that lmms-eval has as a task; convert what lies beside them."""
    rows = [{"index": 10 + i, "image": picture(i), "question": f"What {i}?", "answer": "x"} for i in range(3)]
    write_rows(tmp_path / "GQA.tsv", rows)

    def run(*samples_of):
        samples(tmp_path / "20260101_samples_gqa.jsonl", list(samples_of))
        convert(tmp_path, "lmms-eval", [toy_benchmark("GQA")], tmp_path, tmp_path / "out")
        return read_answers(tmp_path / "out" / "GQA.jsonl")

    return run


def test_lmms_evals_samples_are_matched_by_the_index_of_their_document(toy):
    said = toy(*(sample(i, {"question_id": 12 - i, "question": "?"}, f"a{12 - i}") for i in range(3)))
    assert said == {"10": "a10", "11": "a11", "12": "a12"}


@pytest.mark.parametrize("where", ["doc", "input", "arguments"])
def test_without_an_index_they_are_matched_by_order_and_question(toy, where):
    def one(i, text):
        put = {"doc": {"question": text}, "input": f"<image> {text} Answer", "arguments": {"0": [text]}}
        return sample(i, said=f"a{i}", **{where: put[where]})

    assert toy(*(one(i, f"What {i}?") for i in (2, 0, 1))) == {"10": "a0", "11": "a1", "12": "a2"}
    with pytest.raises(GranvitError, match="document 1 is not for sure question 11 of the benchmark's file"):
        toy(*(one(i, f"What {2 * i}?") for i in range(3)))


@pytest.mark.parametrize(("targets", "told"), [("xxx", True), ("xyx", False)])
def test_questions_of_one_text_are_matched_by_order_only_where_their_answers_agree(
    toy, tmp_path, targets, told
):
    rows = [{"index": i, "image": picture(i), "question": "What?", "answer": "x"} for i in range(3)]
    write_rows(tmp_path / "GQA.tsv", rows)
    asked = [sample(i, {"question": "What?"}, f"a{i}", target=target) for i, target in enumerate(targets)]
    if told:
        assert toy(*asked) == {"0": "a0", "1": "a1", "2": "a2"}
    else:
        with pytest.raises(GranvitError, match="document 1 is not for sure question 1"):
            toy(*asked)


def test_another_number_of_samples_is_not_matched_by_order(toy):
    with pytest.raises(GranvitError, match="gqa.jsonl: 2 samples for 3 questions, and no index"):
        toy(*(sample(i, {"question": f"What {i}?"}) for i in range(2)))


def test_a_line_that_is_no_sample_is_named(toy):
    with pytest.raises(GranvitError, match="gqa.jsonl: line 2: expected a sample with doc_id"):
        toy(sample(0), {"doc_id": 1})


def test_a_sheet_keeps_texts_and_numbers(tmp_path):
    rows = [["a", "b"], ["<&> 'é' \n東京", 1], ["", 2.5], ["_x0041_"[1:], 3], ["bell \x07", 4]]
    write_sheet(tmp_path / "x.xlsx", rows)
    assert read_sheet(tmp_path / "x.xlsx") == [[str(cell) for cell in row] for row in rows]
    assert (tmp_path / "x.xlsx").read_bytes()[:2] == b"PK"


def test_a_sheet_of_another_program_has_shared_texts_and_leaves_out_empty_cells(tmp_path):
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared = f"<sst {space}><si><t>index</t></si><si><r><t>predic</t></r><r><t>tion</t></r></si></sst>"
    sheet = (
        f'<worksheet {space}><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c>'
        '<c r="C1" t="s"><v>1</v></c></row>'
        '<row r="2"><c r="A2"><v>7.0</v></c><c r="C2" t="str"><v>7.0</v></c></row></sheetData></worksheet>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("xl/sharedStrings.xml", shared)
        file.writestr("xl/worksheets/sheet1.xml", sheet)
    (tmp_path / "x.xlsx").write_bytes(buffer.getvalue())
    assert read_sheet(tmp_path / "x.xlsx") == [["index", "", "prediction"], ["7", "", "7.0"]]
