"""PaddleOCR's boxes against the ink's: which texts are compared, and what they cost."""

from __future__ import annotations

import json

import pytest

from granvit.errors import GranvitError
from granvit.miniature import page_boxes
from granvit.miniature.page_boxes import matched, pages


def read(text, box):
    return {"answer": text, "box": box}


def test_a_text_is_compared_with_the_nearest_line_that_says_the_same():
    lines = [
        {"text": "tea", "box": [100, 100, 140, 120]},
        {"text": "tea", "box": [0, 0, 40, 20]},
        {"text": "oat", "box": [0, 40, 40, 60]},
        {"text": "pie", "box": None},
    ]
    row = {
        "qa": [
            read("tea", [2, 2, 50, 30]),
            read("oats", [0, 40, 40, 60]),
            read("oat", [300, 300, 340, 320]),
            read("pie", [0, 80, 40, 100]),
        ]
    }
    assert matched(row, lines) == [("tea", [2, 2, 50, 30], [0, 0, 40, 20])]


def test_pages_are_those_of_the_given_sources_until_there_are_enough(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"key": f"{source}__{i}=2Ejpg", "shard": f"packed/{source}/00000.tar",
         "qa": [{"answer": "tea", "box": [0.0, 0.0, 40.0, 20.0]}]}
        for i in range(3) for source in ("Scenes", "Receipts")
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mixture.parquet")
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({f"{i}.jpg": [{"text": "tea", "box": [0, 0, 40, 20]}] for i in range(3)}))
    found = list(pages(tmp_path / "mixture.parquet", {"Receipts": truth}, 2))
    assert [row["key"] for row, _ in found] == ["Receipts__0=2Ejpg", "Receipts__1=2Ejpg"]


def test_no_text_in_common_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(page_boxes.MLLM, "load", lambda folder: None)
    monkeypatch.setattr(page_boxes, "pages", lambda *given: iter(()))
    with pytest.raises(GranvitError, match="Receipts"):
        page_boxes.page_losses(tmp_path, tmp_path / "mixture.parquet", {"Receipts": tmp_path}, 3)
