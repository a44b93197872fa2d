"""PaddleOCR's boxes against the ink's: which texts are compared, and what they cost."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granvit.data.sources.truth import TrueRegion, Truth
from granvit.errors import GranvitError
from granvit.miniature import page_boxes
from granvit.miniature.page_boxes import matched, pages


def read(text, box):
    return {"answer": text, "box": box}


def test_a_text_is_compared_with_the_nearest_line_or_word_that_says_the_same():
    word = TrueRegion((0, 80, 40, 100), "pie")
    lines = [
        TrueRegion((100, 100, 140, 120), "tea"),
        TrueRegion((0, 0, 40, 20), "tea"),
        TrueRegion((0, 40, 40, 60), "oat"),
        TrueRegion((0, 80, 90, 100), "pie 7", (word,)),
    ]
    row = {
        "qa": [
            read("tea", [2, 2, 50, 30]),
            read("oats", [0, 40, 40, 60]),
            read("oat", [300, 300, 340, 320]),
            read("pie", [0, 78, 44, 100]),
        ]
    }
    assert matched(row, Truth(tuple(lines))) == [
        ("tea", [2, 2, 50, 30], [0, 0, 40, 20]), ("pie", [0, 78, 44, 100], [0, 80, 40, 100])
    ]  # fmt: skip


def test_pages_are_those_of_the_given_sources_until_there_are_enough(tmp_path):
    rows = [
        {"key": f"{source}__{i}=2Ejpg", "width": 512, "height": 512,
         "qa": [{"answer": "tea", "box": [0.0, 0.0, 40.0, 20.0]}]}
        for i in range(3) for source in ("Scenes", "Receipts")
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mixture.parquet")
    known = {f"images/{i}.jpg": Truth((TrueRegion((0, 0, 40, 20), "tea"),)) for i in range(3)}
    truths = {"Receipts": lambda record: known.get(record.provenance["file"])}
    found = list(pages(tmp_path / "mixture.parquet", truths, 2))
    assert [row["key"] for row, _ in found] == ["Receipts__0=2Ejpg", "Receipts__1=2Ejpg"]


def test_no_text_in_common_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(page_boxes.MLLM, "load", lambda folder: None)
    monkeypatch.setattr(page_boxes, "pages", lambda *given: iter(()))
    with pytest.raises(GranvitError, match="Receipts"):
        page_boxes.page_losses(tmp_path, tmp_path / "mixture.parquet", {"Receipts": lambda record: None}, 3)
