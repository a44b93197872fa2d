"""What is written into pictures: labels find room beside what they name, text fits its lines."""

from __future__ import annotations

import itertools
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.transforms import Bbox

from granvit.reporting.lettering import printable, text_width, wrap
from granvit.reporting.pictures import place_labels

boxes = st.tuples(st.floats(0, 90), st.floats(0, 90), st.floats(0.5, 100), st.floats(0.5, 100)).map(
    lambda b: Bbox.from_extents(b[0], b[1], min(100.0, b[0] + b[2]), min(100.0, b[1] + b[3]))
)


@given(st.lists(boxes, min_size=1, max_size=12), st.lists(boxes, max_size=5))
def test_labels_neither_overlap_nor_leave_the_picture(targets, avoid):
    bounds = Bbox.from_bounds(0, 0, 100, 100)
    places = place_labels(targets, [(12.0, 9.0)] * len(targets), bounds, avoid)
    assert all(places)  # a dozen labels always find room in this picture
    for place in places:
        assert place.size == pytest.approx((12, 9))
        assert Bbox.intersection(place, bounds).size == pytest.approx(place.size)
    for a, b in itertools.combinations(places, 2):
        assert not a.fully_overlaps(b)


def test_a_label_stands_beside_a_line_of_text_and_off_the_next_line():
    line, next_line = Bbox.from_extents(0, 50, 60, 58), Bbox.from_extents(60, 50, 100, 58)
    (alone,) = place_labels([line], [(12.0, 9.0)], Bbox.from_bounds(0, 0, 100, 100), [line])
    assert alone.x0 == 60 and alone.y0 < 58 and alone.y1 > 50
    (crowded,) = place_labels([line], [(12.0, 9.0)], Bbox.from_bounds(0, 0, 100, 100), [line, next_line])
    assert crowded.y0 == 58 or crowded.y1 == 50


def test_a_label_that_has_no_room_is_left_out():
    bounds = Bbox.from_bounds(0, 0, 10, 10)
    assert place_labels([Bbox.from_bounds(0, 0, 5, 5)], [(12.0, 9.0)], bounds) == [None]


@given(st.text(min_size=1, max_size=200), st.integers(1, 4))
def test_wrapped_text_fits_whatever_it_holds(text, lines):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a character that its fonts lack
        wrapped = wrap(text, 60, 7, lines)
        assert len(wrapped) <= lines
        assert all(text_width(line, 7) <= 60 for line in wrapped)


def test_short_text_stays_whole_and_unknown_characters_become_squares():
    assert wrap("a red cube", 200, 7, 2) == ["a red cube"]
    assert printable("price\t$5\n– Grüße, ωмя") == "price $5 – Grüße, ωмя"
    assert printable("a\u0000b\ud800c") == "abc"
    assert printable("\U0001fad8") == "□"
