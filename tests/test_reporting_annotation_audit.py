"""What the annotators got right: every measure against a value worked out by hand, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from data_worlds import read_csv

from granvit.boxes import iou
from granvit.config.data import FilterRules
from granvit.data.records.records import Record, Region
from granvit.data.sources.truth import TrueRegion, Truth
from granvit.errors import GranvitError
from granvit.evaluation.uncertainty import ratio_intervals
from granvit.reporting import annotation_audit
from granvit.reporting.annotation_audit import Audited, audit, make_annotation_audit

TEA, MILK = ((0, 0, 100, 20), "tea"), ((0, 40, 100, 60), "milk")
GIVEN = {"boxes": "ocr", "texts": "ocr", "captions": "none"}
NAMES = ("precision", "recall", "f1", "mean_iou", "located", "excess")


def record(*found, key="a", caption=None, data_type="ocr", side=500) -> Record:
    regions = [Region(list(box), text) for box, text in found]
    return Record(key, "Pages", data_type, side, side, caption, regions, provenance={"file": f"{key}.jpg"})


def true(*regions, caption=None) -> Truth:
    return Truth(tuple(TrueRegion(*region) for region in regions), caption)


def values(records, truths, unit="whole", **more) -> dict[str, float]:
    """measure -> value; ``truths`` of one image, or by keys."""
    known = truths if isinstance(truths, dict) else {"a": truths}
    source = Audited("Pages", GIVEN, "rendered", records, lambda one: known.get(one.key), **more)
    return {f"{one.part} {one.measure}": one.value for one in audit(source)[0] if one.unit == unit}


def boxes(found, truth) -> list[float]:
    measured = values([record(*found)], truth)
    return [measured[f"boxes {name}"] for name in NAMES]


def test_perfect_annotations_are_all_right():
    measured = values([record(TEA, MILK)], true(TEA, MILK))
    assert boxes([MILK, TEA], true(TEA, MILK)) == [1, 1, 1, 1, 1, 0]
    assert {n: measured[f"texts {n}"] for n in ("exact", "cer", "end_to_end", "read")} == {
        "exact": 1, "cer": 0, "end_to_end": 1, "read": 1,
    }  # fmt: skip
    assert not any(name.startswith("captions") or "rouge" in name for name in measured)


def test_a_box_that_is_wider_by_some_pixels_is_found_and_its_excess_is_measured():
    # 4 px left, 2 right, 1 above, 9 below: 106 x 30 around 100 x 20
    wide = [((46, 49, 152, 79), "tea")]
    tight = true(((50, 50, 150, 70), "tea"))
    measured = values([record(*wide)], tight)
    assert measured["boxes mean_iou"] == pytest.approx(2000 / 3180)
    sides = {side: measured[f"boxes excess_{side}"] for side in ("left", "top", "right", "bottom")}
    assert sides == {"left": 4, "top": 1, "right": 2, "bottom": 9}
    assert (measured["boxes excess"], measured["boxes f1"]) == (4, 1)


def test_a_shifted_box_is_matched_until_half_is_gone():
    # 30 px to the right of 100 leave 70 of 130; 40 leave 60 of 140
    assert boxes([((30, 0, 130, 20), "tea")], true(TEA)) == [1, 1, 1, pytest.approx(70 / 130), 1, 0]
    missed = values([record(((40, 0, 140, 20), "tea"))], true(TEA))
    assert [missed[f"boxes {name}"] for name in ("precision", "recall", "f1", "located")] == [0, 0, 0, 1]
    assert (missed["boxes excess_left"], missed["boxes excess_right"]) == (-40, 40)
    assert "boxes mean_iou" not in missed and "texts exact" not in missed  # means over nothing
    assert (missed["texts end_to_end"], missed["texts read"]) == (0, 1)


def test_a_missing_line_costs_recall_and_one_too_many_precision():
    assert boxes([TEA], true(TEA, MILK))[:3] == [1, 0.5, pytest.approx(2 / 3)]
    assert boxes([TEA, MILK], true(TEA))[:3] == [0.5, 1, pytest.approx(2 / 3)]
    assert boxes([TEA, TEA], true(TEA))[:3] == [0.5, 1, pytest.approx(2 / 3)]  # a line found twice
    measured = values([record(TEA)], true(TEA, MILK))
    assert (measured["texts exact"], measured["texts end_to_end"]) == (1, 0.5)


def test_a_wrong_letter_costs_its_line_and_one_edit():
    measured = values([record(TEA, (MILK[0], "mi1k"))], true(TEA, MILK))
    assert (measured["texts exact"], measured["texts end_to_end"]) == (0.5, 0.5)
    assert measured["texts cer"] == pytest.approx(1 / 7)
    assert values([record((TEA[0], " t  ea "))], true((TEA[0], "t ea")))["texts exact"] == 1  # white space


def test_boxes_are_matched_for_the_largest_sum_of_overlaps():
    # The first found box overlaps the second true one best (.9), but is the only one that fits the first (.6)
    found = [((0, 0, 100, 10), ""), ((10, 0, 146, 10), "")]
    wanted = true(((0, 0, 60, 10), ""), ((10, 0, 100, 10), ""))
    overlaps = [[iou(f, t.box) for t in wanted.regions] for f, _ in found]
    assert overlaps[0] == [0.6, 0.9] and overlaps[1][0] < 0.5 < overlaps[1][1]
    assert boxes(found, wanted)[:3] == [1, 1, 1]
    # A loose pair more is not worth an exact one: its excess would be that of another box
    found, wanted = (
        [((0, 0, 100, 10), ""), ((80, 0, 100, 10), "")],
        true(((0, 0, 30, 10), ""), ((0, 0, 100, 10), "")),
    )
    measured = values([record(*found)], wanted)
    assert (measured["boxes located"], measured["boxes excess"]) == (0.5, 0)


def test_overlaps_are_those_of_the_boxes_module():
    draw = np.random.default_rng(0)
    corners = np.sort(draw.integers(0, 20, (2, 9, 2, 2)), axis=2).reshape(2, 9, 4)
    a, b = corners.tolist()
    regions = [Region(box, "") for box in a], [TrueRegion(tuple(box), "") for box in b]
    expected = [[iou(x, y) for y in b] for x in a]
    assert annotation_audit._ious(*regions) == pytest.approx(np.array(expected))


def test_a_line_read_word_by_word_is_right_in_pieces_and_wrong_as_a_whole():
    words = ((0, 0, 40, 20), "tea"), ((160, 0, 200, 20), "12")
    line = TrueRegion((0, 0, 200, 20), "tea 12", tuple(TrueRegion(*word) for word in words))
    truth = Truth((line, TrueRegion(*MILK)))
    whole, pieces = (values([record(*words, MILK)], truth, unit) for unit in ("whole", "pieces"))
    assert [whole[f"boxes {n}"] for n in ("precision", "recall")] == [pytest.approx(1 / 3), 0.5]
    assert [pieces[f"boxes {n}"] for n in ("precision", "recall")] == [1, 1]
    assert (whole["texts end_to_end"], pieces["texts end_to_end"]) == (0.5, 1)
    # One word of two is no line: what lies on the whole of it is
    over = ((0, 0, 200, 30), "tea 12")
    assert values([record(over, words[0])], Truth((line,)), "pieces")["boxes recall"] == 1
    assert values([record(over, words[0])], Truth((line,)), "pieces")["texts end_to_end"] == 1
    # The line as a whole counts as it stands, and so does a page whose truth knows no words
    read_whole = values([record((line.box, "tea 12"), MILK)], truth, "pieces")
    assert (read_whole["boxes f1"], read_whole["texts end_to_end"]) == (1, 1)
    both = {"a": truth, "b": true(TEA)}
    mixed = values([record(*words, MILK), record(key="b")], both, "pieces")
    assert mixed["boxes recall"] == 0.75
    assert values([record(TEA)], true(TEA), "pieces") == {}


def test_captions_and_prose_are_measured_by_rouge_l():
    truth = true((TEA[0], "a red ring"), caption="a red ring on grass")
    measured = values(
        [record((TEA[0], "a red cross"), caption="a ring on grass", data_type="natural")], truth
    )
    assert measured["texts rouge_l"] == pytest.approx(2 / 3)
    # 4 of 4 words said, 4 of 5 wanted
    assert measured["captions rouge_l"] == pytest.approx(2 * 0.8 / 1.8)
    assert measured["captions exact"] == 0
    silent = values([record(caption=None, data_type="natural")], true(caption="a ring"))
    assert silent == {"captions exact": 0, "captions rouge_l": 0}  # of a truth of captions alone


def test_what_the_filters_drop_was_not_looked_at():
    rules = FilterRules(min_image_side=448, image_aspect=3.0, box_rules=False, box_aspect=3.0,
                        min_box_area=100, min_regions=1)  # fmt: skip
    small = record(key="b", side=100)
    truths = {"a": true(TEA), "b": true(TEA)}
    assert values([record(TEA), small], truths)["boxes recall"] == 0.5
    assert values([record(TEA), small], truths, filters=rules)["boxes recall"] == 1
    undescribed = values([record((TEA[0], None), MILK)], true(TEA, MILK))
    assert (undescribed["boxes recall"], undescribed["texts end_to_end"]) == (1, 1)
    with pytest.raises(GranvitError, match="1 of its images, all of which the filters drop"):
        values([small], truths, filters=rules)


def test_an_interval_draws_images_not_boxes():
    # Two images of nine right boxes, two of nine missed ones: by images the share is anything of 0 to 1
    above, below = np.array([[9.0], [9.0], [0.0], [0.0]]), np.full((4, 1), 9.0)
    assert ratio_intervals(list("abcd"), above, below) == [(0.0, 1.0)]
    assert ratio_intervals(list("abcd"), below, below) == [(1.0, 1.0)]
    sure = ratio_intervals([f"{i}" for i in range(400)], np.tile([[1.0], [0.0]], (200, 1)), np.ones((400, 1)))
    assert sure[0] == (pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006))  # 1.96 * .5 / 20
    # Where an image has none of what is measured, it changes nothing but the images drawn
    ((low, high),) = ratio_intervals(["a", "b"], np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]]))
    assert (low, high) == (1.0, 1.0)
    with pytest.raises(GranvitError, match="no images"):
        ratio_intervals([], np.zeros((0, 1)), np.zeros((0, 1)))


def test_the_file_lists_every_source_and_is_the_same_in_any_order_of_images(tmp_path):
    records = [record(*[TEA, MILK][: 1 + i % 2], key=str(i)) for i in range(9)]

    def sources(order):
        yield Audited("Pages", GIVEN, "rendered", order, lambda one: true(TEA, MILK))
        yield Audited("Web", GIVEN)
        yield Audited("Talk", GIVEN, annotation_audit.NOTHING_ANNOTATED)

    for name, order in (("one", records), ("two", records[::-1])):
        make_annotation_audit(sources(order), tmp_path / f"{name}.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    rows = read_csv(tmp_path / "one.csv")
    (recall,) = (row for row in rows if row["measure"] == "recall")
    assert (recall["value"], recall["count"], recall["images"]) == ("0.7222", "18", "9")  # 13 of 18
    assert float(recall["low"]) < 0.7222 < float(recall["high"])
    assert {row["source"]: row["truth"] for row in rows} == {
        "Pages": "rendered", "Web": "no truth", "Talk": "nothing annotated",
    }  # fmt: skip
    assert [row["made_by"] for row in rows if row["source"] != "Pages"] == ["", ""]


def test_a_truth_of_other_images_is_an_error():
    with pytest.raises(
        GranvitError, match="'Pages': its truth .* tells of none of its images, such as 'a.jpg'"
    ):
        values([record(TEA)], {"b": true(TEA)})
