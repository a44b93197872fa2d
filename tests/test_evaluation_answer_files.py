"""Files of predictions, which people write too: each mistake is one line that says how to mend it."""

from __future__ import annotations

import json

import pytest
from benchmark_world import picture, write_rows
from evaluation_world import toy_benchmark

from granvit.errors import GranvitError
from granvit.evaluation.answer_files import AnswerFiles, join, read_answers
from granvit.evaluation.benchmarks import read_questions


def line(index, prediction="x"):
    return json.dumps({"index": index, "prediction": prediction}, ensure_ascii=False) + "\n"


LINES = [
    (line("1") + line(1, "y"), "line 2: question 1 is answered a second time, first in line 1; keep one"),
    (
        line("1") + line("2", None),
        r"line 2: prediction is null, expected a text \(\"\" where nothing was said\)",
    ),
    (line("1", ["x"]), r"line 1: prediction is \[\"x\"\], expected a text"),
    (line("1", True), "line 1: prediction is true, expected a text"),
    (line(None), "line 1: index is null, expected a text"),
    (line(1.5), "line 1: index is 1.5, expected a text"),
    ('{"index": 1}\n', "line 1: expected a JSON object with index and prediction"),
    ("[1, 2]\n", "line 1: expected a JSON object with index and prediction"),
    (line("1") + '{"index": "2", "pre', "line 2: expected a JSON object with index and prediction"),
]


@pytest.mark.parametrize(("text", "message"), LINES)
def test_a_line_that_is_no_answer_is_named_with_its_number(tmp_path, text, message):
    (tmp_path / "Toy.jsonl").write_text(text)
    with pytest.raises(GranvitError, match=f"Toy.jsonl: {message}") as error:
        read_answers(tmp_path / "Toy.jsonl")
    assert "\n" not in str(error.value) and "delete" not in str(error.value)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("latin-1", "line 2: not UTF-8; write the file anew as UTF-8"),
        ("utf-16", "the text is UTF-16; write it anew as UTF-8"),
    ],
)
def test_another_encoding_is_named(tmp_path, encoding, message):
    (tmp_path / "Toy.jsonl").write_bytes((line("1") + line("2", "grün")).encode(encoding))
    with pytest.raises(GranvitError, match=message):
        read_answers(tmp_path / "Toy.jsonl")


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_no_harm(tmp_path):
    (tmp_path / "Toy.jsonl").write_bytes(("\ufeff" + line("1") + "\r\n" + line(2, 7)).encode())
    assert read_answers(tmp_path / "Toy.jsonl") == {"1": "x", "2": "7"}


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (range(7), r"7 answers for 8 questions of Toy \(none for question 7\); ask the rest with"),
        (
            range(9),
            r"9 answers for 8 questions of Toy \(one for 8, which Toy.tsv does not ask\); --data names",
        ),
        ([*range(7), 9], r"8 answers for 8 questions of Toy \(none for question 7; one for 9, which"),
    ],
)
def test_answers_to_other_questions_are_counted_and_an_example_named(tmp_path, indices, message):
    rows = [{"index": i, "image": picture(i), "question": "q", "answer": "x"} for i in range(8)]
    write_rows(tmp_path / "Toy.tsv", rows)
    (tmp_path / "Toy.jsonl").write_text("".join(map(line, indices)))
    benchmark = toy_benchmark()
    with pytest.raises(GranvitError, match=message) as error:
        join(tmp_path / "Toy.jsonl", benchmark, read_questions(benchmark, tmp_path))
    assert "delete" not in str(error.value)


@pytest.mark.parametrize("damage", [b"\x00\x00\n", b"\xff\xfe\xfa\n", b"{]\n", b'{"index": 3}\n'])
def test_a_damaged_line_of_a_partial_file_is_named_and_how_to_go_on(tmp_path, damage):
    path = tmp_path / "Toy.01234567.0-1.partial"
    path.write_bytes(line("1").encode() + damage + line("2").encode())
    with pytest.raises(
        GranvitError, match=r"partial: line 2: .*; remove the line: its question is asked again"
    ):
        AnswerFiles(tmp_path, {"Toy": "01234567"})
