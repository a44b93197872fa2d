"""Mixtures: budgets nest, held-out images are nowhere else, and every row finds its image."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from data_worlds import prepare, spec, write_coco, write_llava
from hypothesis import given, settings
from hypothesis import strategies as st

from granvit.boxes import format_box, parse_box
from granvit.config.data import FilterRules
from granvit.data.mixtures.budget import NO_LIMIT, Budget
from granvit.data.mixtures.mixture import Drawing
from granvit.data.records.records import hash_key
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError

HELD = 0.15


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Forty natural and forty "OCR" images, two shards each; five are copies of natural ones."""
    tmp_path = tmp_path_factory.mktemp("world")
    natural = spec(write_coco(tmp_path / "n", images=40, tag="n"), shards=2)
    pages = write_coco(tmp_path / "o", images=40, tag="o")
    for i in range(5):
        (pages / f"images/{i}.jpg").write_bytes((tmp_path / f"n/images/{i}.jpg").read_bytes())
    ocr = spec(pages, name="Pages", data_type="ocr", shards=2)
    return prepare(natural, tmp_path) + prepare(ocr, tmp_path)


def _build(indexes, out, tasks=("global_caption", "bbox2caption"), budget=None, share=1.0, **more):
    Drawing(indexes, out / "m.parquet", out / "m.json", HELD).regions(tasks, budget, share, **more)
    return pq.read_table(out / "m.parquet").to_pylist(), json.loads((out / "m.json").read_text())


def test_smaller_budget_lies_within_the_larger_one(indexes, tmp_path):
    chosen = []
    for budget in (10, 30, 31, 90, None):
        rows, summary = _build(indexes, tmp_path, budget=budget)
        keys = {row["key"] for row in rows}
        assert not chosen or chosen[-1] <= keys
        assert summary["regions"] == summary["qa"]["bbox2caption"]
        assert budget is None or budget - 3 < summary["regions"] <= budget
        chosen.append(keys)
    assert len(chosen[0]) < len(chosen[-1])


def test_adding_a_source_keeps_which_images_of_the_others_are_held_out(indexes, tmp_path):
    Drawing(indexes[:2], tmp_path / "few.parquet", tmp_path / "few.json", HELD).held_out()
    Drawing(indexes, tmp_path / "all.parquet", tmp_path / "all.json", HELD).held_out()
    few = set(pq.read_table(tmp_path / "few.parquet")["key"].to_pylist())
    every = set(pq.read_table(tmp_path / "all.parquet")["key"].to_pylist())
    assert few and few == {key for key in every if key.startswith("World__")}


def test_held_out_images_are_in_no_other_mixture_not_even_as_copies(indexes, tmp_path):
    Drawing(indexes, tmp_path / "h.parquet", tmp_path / "h.json", HELD).held_out()
    rows = pq.read_table(tmp_path / "h.parquet").to_pylist()
    held_out = {row["image_sha256"] for row in rows}
    trained, _ = _build(indexes, tmp_path)
    assert held_out and not held_out & {row["image_sha256"] for row in trained}
    assert held_out | {row["image_sha256"] for row in trained} == {
        sha for index in indexes for sha in pq.read_table(index)["image_sha256"].to_pylist()
    }
    assert {item["task"] for row in rows for item in row["qa"]} == {"bbox2caption", "caption2bbox"}
    assert all(len(row["qa"]) == 6 for row in rows)


def test_every_row_reads_back_its_image_and_rows_are_in_hash_order(indexes, tmp_path):
    rows, _ = _build(indexes, tmp_path)
    hashes = [hash_key(row["key"]) for row in rows]
    assert hashes == sorted(hashes)
    for row in rows:
        assert read_image_bytes(row["shard"], row["offset"], row["size"])[:2] == b"\xff\xd8"


def test_questions_and_answers_agree_with_the_box(indexes, tmp_path):
    rows, _ = _build(indexes, tmp_path, tasks=("global_caption", "bbox2caption", "caption2bbox"))
    assert rows
    for row in rows:
        assert [item["task"] for item in row["qa"]] == ["global_caption"] + [
            "bbox2caption",
            "caption2bbox",
        ] * 3
        for item in row["qa"][1:]:
            text = format_box(item["box"], row["width"], row["height"])
            assert text in (item["question"] if item["task"] == "bbox2caption" else item["answer"])
            assert parse_box(text) is not None
        assert row["qa"][0]["box"] is None


def test_ocr_share_takes_that_share_of_ocr_images_and_all_natural_ones(indexes, tmp_path):
    _, full = _build(indexes, tmp_path)
    rows, half = _build(indexes, tmp_path, share=0.5)
    assert half["sources"]["World"] == full["sources"]["World"]
    assert 0.25 < half["sources"]["Pages"]["images"] / full["sources"]["Pages"]["images"] < 0.75


def test_global_captions_of_all_images_can_come_along(indexes, tmp_path):
    _, chosen = _build(indexes, tmp_path, budget=30)
    _, every = _build(indexes, tmp_path, budget=30, global_captions="all")
    _, full = _build(indexes, tmp_path)
    assert chosen["qa"]["global_caption"] == 10
    assert every["qa"]["global_caption"] == full["qa"]["global_caption"]
    assert every["qa"]["bbox2caption"] == 30


def test_why_an_image_is_left_out_is_told_where_all_captions_come_along_too(tmp_path):
    source = spec(write_coco(tmp_path / "raw", images=10), captions="none")
    index = prepare(source, tmp_path)
    _, chosen = _build(index, tmp_path, budget=9)
    _, every = _build(index, tmp_path, budget=9, global_captions="all")
    assert chosen["left_out"]["budget"] > 0 and every["left_out"] == chosen["left_out"]


def test_a_region_with_two_questions_is_counted_as_one(indexes, tmp_path):
    rows, summary = _build(indexes, tmp_path, tasks=("bbox2caption", "caption2bbox"), budget=30)
    assert (summary["regions"], summary["images"]) == (30, len(rows)) == (30, 10)
    assert summary["qa"] == {"bbox2caption": 30, "caption2bbox": 30}
    assert sum(source["regions"] for source in summary["sources"].values()) == 30
    assert (summary["budget_regions"], summary["sample_by"]) == (30, "image")


def test_images_that_no_task_asks_about_are_counted(tmp_path):
    index = prepare(spec(write_coco(tmp_path / "raw", images=10), captions="none"), tmp_path)
    with pytest.raises(GranvitError, match="no image is left"):
        _build(index, tmp_path, tasks=("global_caption",))
    captioned = prepare(spec(write_coco(tmp_path / "other", images=10, tag="c"), name="Captioned"), tmp_path)
    _, summary = _build(index + captioned, tmp_path, tasks=("global_caption",))
    assert set(summary["sources"]) == {"Captioned"} and summary["left_out"]["no_question"] > 0
    assert summary["regions"] == 0


def test_a_budget_beyond_what_the_sources_hold_is_reported(indexes, tmp_path, caplog):
    _, every = _build(indexes, tmp_path)
    _build(indexes, tmp_path, budget=every["regions"] - 1)
    assert "the budget asks for" not in caplog.text
    _, summary = _build(indexes, tmp_path, budget=every["regions"] + 1)
    asked = f"asks for {every['regions'] + 1} regions, the sources hold {every['regions']}"
    assert asked in caplog.text and summary["regions"] == every["regions"]


def _regions(rows):
    return {(row["key"], *item["box"]) for row in rows for item in row["qa"] if item["box"]}


def test_budget_by_region_is_met_to_the_region_and_nests(indexes, tmp_path):
    chosen = []
    for budget in (10, 31, 90, None):
        rows, summary = _build(indexes, tmp_path, budget=budget, sample_by="region")
        regions = _regions(rows)
        assert not chosen or chosen[-1] < regions
        assert len(regions) == summary["regions"] == (budget or len(regions))
        assert all(row["qa"][0]["task"] == "global_caption" and len(row["qa"]) > 1 for row in rows)
        chosen.append(regions)
    by_image, _ = _build(indexes, tmp_path)
    assert chosen[-1] == _regions(by_image)


def test_regions_are_drawn_across_images_and_not_image_by_image(indexes, tmp_path):
    by_image, _ = _build(indexes, tmp_path, budget=60)
    by_region, _ = _build(indexes, tmp_path, budget=60, sample_by="region")
    assert len(by_image) == 20
    assert len(by_region) > 30


def test_ocr_share_by_region_takes_that_share_of_ocr_regions(indexes, tmp_path):
    _, full = _build(indexes, tmp_path, sample_by="region")
    _, half = _build(indexes, tmp_path, share=0.5, sample_by="region")
    assert half["sources"]["World"] == full["sources"]["World"]
    assert 0.35 < half["sources"]["Pages"]["regions"] / full["sources"]["Pages"]["regions"] < 0.65
    assert half["sources"]["Pages"]["images"] > 0.75 * full["sources"]["Pages"]["images"]


@pytest.mark.parametrize("sample_by", ["image", "region"])
def test_every_image_is_in_the_mixture_or_counted_as_left_out(indexes, tmp_path, sample_by):
    _, summary = _build(indexes, tmp_path, budget=30, share=0.5, sample_by=sample_by)
    assert set(summary["left_out"]) == {"held_out", "ocr_share", "budget"}
    assert summary["images"] + sum(summary["left_out"].values()) == 80


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=40), st.integers(0, 60))
def test_budget_that_forgets_what_does_not_fit_finds_the_limit_of_sorting_everything(units, regions):
    weights = dict(units)  # a hash each
    budget = Budget(regions, pending=3)
    for value, weight in weights.items():
        budget.add([value], weight)
    taken, limit = 0, NO_LIMIT
    for value in sorted(weights):
        taken += weights[value]
        if taken > regions:
            limit = value
            break
    assert budget.cutoff() == limit
    assert budget.is_reached() == (limit != NO_LIMIT)


def test_equal_inputs_give_equal_bytes_in_any_order_of_shards(indexes, tmp_path):
    _build(indexes, tmp_path)
    first = (tmp_path / "m.parquet").read_bytes(), (tmp_path / "m.json").read_bytes()
    _build(indexes[::-1], tmp_path)
    assert ((tmp_path / "m.parquet").read_bytes(), (tmp_path / "m.json").read_bytes()) == first


def test_what_a_killed_drawing_left_behind_is_removed_by_the_next(indexes, tmp_path):
    left = tmp_path / ".m.parquet.123.buckets.tmp"
    left.mkdir()
    (left / "00.arrows").write_bytes(b"half")
    Drawing(indexes, tmp_path / "m.parquet", tmp_path / "m.json", 0.5).held_out()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == "." or "m." in path.name) == [
        "m.json", "m.parquet",
    ]  # fmt: skip


def test_conversations_become_one_question_a_turn(tmp_path):
    root = write_llava(tmp_path / "raw", images=30)
    source = spec(root, adapter="llava", data_type="instruction", use="sft", name="Chat", captions="none")
    indexes = prepare(source, tmp_path)
    Drawing(indexes, tmp_path / "m.parquet", tmp_path / "m.json", 0.0).conversations()
    rows = pq.read_table(tmp_path / "m.parquet").to_pylist()
    assert len(rows) == 30
    assert [(item["task"], item["question"]) for item in rows[0]["qa"]] == [
        ("instruction", "What is it?"),
        ("instruction", "Sure?"),
    ]
    Drawing(indexes, tmp_path / "m.parquet", tmp_path / "m.json", HELD).conversations()
    assert 15 < json.loads((tmp_path / "m.json").read_text())["images"] < 30


def test_unknown_task_and_empty_mixture_are_told(indexes, tmp_path):
    with pytest.raises(GranvitError, match="'caption'"):
        _build(indexes, tmp_path, tasks=("caption",))
    with pytest.raises(GranvitError, match="'box'"):
        _build(indexes, tmp_path, sample_by="box")
    with pytest.raises(GranvitError, match=r"m\.parquet: no image"):
        _build(indexes, tmp_path, budget=1)
    assert not list(tmp_path.iterdir())


def test_a_source_of_which_nothing_was_packed_is_an_error(tmp_path):
    whole = prepare(spec(write_coco(tmp_path / "a"), name="Whole"), tmp_path)
    small = FilterRules(min_image_side=5000)
    empty = prepare(spec(write_coco(tmp_path / "b"), name="Empty"), tmp_path, small)
    drawing = Drawing([*whole, *empty], tmp_path / "m.parquet", tmp_path / "m.json", 0.0)
    with pytest.raises(GranvitError, match="source 'Empty': its packed shards hold no image"):
        drawing.regions(["bbox2caption"], None, 1.0)
