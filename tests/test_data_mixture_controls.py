"""Mixtures of controls (docs/controls.md): texts with other regions' boxes, and captions alone."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import edit_coco, prepare, spec, write_coco
from test_data_mixture import HELD, _build, indexes  # noqa: F401  (a fixture)

from granvit.boxes import format_box, iou
from granvit.data.mixtures.mixture import Drawing
from granvit.data.mixtures.shuffle import Donors, shuffle_boxes
from granvit.data.records.records import hash_key, hash_share
from granvit.errors import GranvitError


def row(key: str, *regions: tuple[list[float], str], size=(100, 100), data_type="natural") -> dict:
    return {
        "key": key, "width": size[0], "height": size[1], "data_type": data_type,
        "regions": [{"box": box, "text": text} for box, text in regions],
    }  # fmt: skip


def grid(key: str, count: int, **more) -> dict:
    """Regions side by side, each with a text of its own."""
    return row(key, *(([10.0 * i, 0, 10.0 * i + 10, 10], f"text {i}") for i in range(count)), **more)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_regions_of_an_image_trade_their_boxes_and_none_keeps_its_own(count):
    for number in range(20):
        before = grid(f"image {number}", count)
        after = shuffle_boxes(before, Donors([]))
        boxes, others = ([region["box"] for region in found] for found in (before["regions"], after))
        assert sorted(boxes) == sorted(others)
        assert all(a != b for a, b in zip(boxes, others, strict=True))
        assert [region["text"] for region in after] == [region["text"] for region in before["regions"]]


def test_which_box_a_text_gets_depends_on_hashes_and_not_on_the_order_of_regions():
    one = grid("key", 6)
    other = one | {"regions": one["regions"][::-1]}
    assert shuffle_boxes(one, Donors([])) == shuffle_boxes(other, Donors([]))[::-1]
    assert shuffle_boxes(grid("another", 6), Donors([])) != shuffle_boxes(one, Donors([]))


def test_a_twin_and_a_box_at_the_same_place_are_no_other_box():
    twins = row("k", ([0, 0, 10, 10], "red"), ([50, 50, 60, 60], "red"), ([0, 0, 10, 11], "square"))
    red, second, square = shuffle_boxes(twins, Donors([grid("donor", 10)]))
    assert square["box"] == [50, 50, 60, 60]
    assert second["box"] == [0, 0, 10, 11]  # not the other red one's
    assert all(iou(red["box"], box) < 0.5 for box in ([0, 0, 10, 10], [50, 50, 60, 60]))


def test_an_only_region_borrows_a_box_of_another_image_by_its_share_of_that_image():
    donor = row("donor", ([0.0, 50.0, 100.0, 100.0], "there"), size=(200, 100))
    page = row("page", ([0.0, 0.0, 10.0, 10.0], "line"), data_type="ocr")
    single = row("single", ([300.0, 0.0, 400.0, 50.0], "here"), size=(400, 200))
    (borrowed,) = shuffle_boxes(single, Donors([donor, page, single]))
    assert borrowed == {"box": [0.0, 100.0, 200.0, 200.0], "text": "here"}
    with pytest.raises(GranvitError, match=r"image 'page': no other box .* second region .* ocr sources"):
        shuffle_boxes(page, Donors([donor, page, single]))


def test_donors_are_the_boxes_of_the_smallest_hashes_in_any_order():
    rows = [grid(f"image {number}", 3) for number in range(30)]
    some = Donors(rows, most=5).boxes["natural"]
    assert some == Donors(rows[::-1], most=5).boxes["natural"] and len(some) == 5
    found = [(one["key"], region["box"]) for one in rows for region in one["regions"]]
    names = [(f"{key} {','.join(map(repr, box))}", box) for key, box in found]
    smallest = sorted(names, key=lambda item: hash_key(item[0], "donor"))[:5]
    assert sorted(some) == sorted([value / 100 for value in box] for _, box in smallest)


def test_a_shuffled_mixture_has_the_same_images_and_texts_with_other_boxes(indexes, tmp_path):  # noqa: F811
    plain, summary = _build(indexes, tmp_path, budget=60)
    shuffled, other = _build(indexes, tmp_path, budget=60, shuffled=True)
    assert summary == other and [one["key"] for one in plain] == [one["key"] for one in shuffled]
    compared = 0
    for one, changed in zip(plain, shuffled, strict=True):
        for a, b in zip(one["qa"], changed["qa"], strict=True):
            assert a["answer"] == b["answer"] and a["task"] == b["task"]
            if a["task"] == "bbox2caption":
                assert iou(a["box"], b["box"]) < 0.5
                assert format_box(b["box"], one["width"], one["height"]) in b["question"]
                compared += 1
    assert compared == summary["regions"] > 50


def test_images_with_one_region_are_shuffled_too(tmp_path):
    def move(content: dict) -> None:
        for region in content["annotations"][::2]:
            region["bbox"][:2] = [300, 300]

    root = write_coco(tmp_path / "n", images=30, boxes=1, tag="n")
    edit_coco(root, move)
    shards = prepare(spec(root, shards=2), tmp_path)
    pairs = zip(_build(shards, tmp_path)[0], _build(shards, tmp_path, shuffled=True)[0], strict=True)
    boxes = [(plain["qa"][-1]["box"], shuffled["qa"][-1]["box"]) for plain, shuffled in pairs]
    assert len(boxes) > 20 and not any(iou(own, other) for own, other in boxes)


def test_neither_a_held_out_image_nor_a_benchmarks_lends_its_boxes(indexes, tmp_path):  # noqa: F811
    everyone = [one for index in indexes for one in pq.read_table(index).to_pylist()]
    held_out = {one["key"] for one in everyone if hash_share(one["image_sha256"], "held-out") < HELD}
    seen = next(one["key"] for one in everyone if one["key"] not in held_out)
    pq.write_table(pa.table({"key": [seen]}), tmp_path / "matches.parquet")
    out = tmp_path / "m.parquet", tmp_path / "m.json"
    lent = Drawing(indexes, *out, HELD, contamination=tmp_path / "matches.parquet")._donors().boxes
    lenders = [one for one in everyone if one["key"] not in held_out | {seen}]
    assert held_out and len(lenders) < len(everyone) - len(held_out)
    assert {kind: sorted(boxes) for kind, boxes in lent.items()} == {
        kind: sorted(boxes) for kind, boxes in Donors(lenders).boxes.items()
    }


def test_captions_alone_are_those_of_the_images_that_the_regions_come_from(indexes, tmp_path):  # noqa: F811
    regions, _ = _build(indexes, tmp_path, budget=60)
    captions, summary = _build(indexes, tmp_path, tasks=("global_caption",), budget=60)
    expected = {one["key"]: one["qa"][0] for one in regions if one["qa"][0]["task"] == "global_caption"}
    assert {one["key"]: one["qa"][0] for one in captions} == expected
    assert all(len(one["qa"]) == 1 for one in captions)
    assert summary["regions"] == 0 and summary["qa"] == {"global_caption": len(captions)}
