"""Figures 2, 6 and 7: legible at one source and at 38, boxes on the right things, nothing cut off."""

from __future__ import annotations

import json

import numpy as np
import pytest
from data_report_world import natural_record, pack, page_record, picture
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from granvit.boxes import exif_to_display
from granvit.config.data import FilterRules
from granvit.data.records.filters import filter_shard
from granvit.data.records.records import Record, Region, read_records
from granvit.errors import GranvitError
from granvit.reporting.annotation_figure import annotation_page
from granvit.reporting.data_figures import layout, samples_page
from granvit.reporting.data_samples import choose_annotation, choose_samples, explain, listed_regions
from granvit.reporting.drawing import colour_of, save_figure
from granvit.reporting.pictures import Picture

GIVEN = {"boxes": "given", "captions": "given", "text": "given"}


def extents(page):
    """Where each text of a page is, in pixels, as drawn."""
    page.canvas.draw()
    return [(text.get_text(), text.get_window_extent()) for text in page.findobj(Text) if text.get_text()]


def words_of(page):
    """All that a page says: each text on one line."""
    return [text.replace("\n", " ") for text, _ in extents(page)]


def assert_legible(page):
    """Every text and picture lies inside the page, no text on another, and none on a picture's edge."""
    texts = extents(page)
    pictures = [
        (f"picture {number}", picture.get_window_extent()) for number, picture in enumerate(drawn(page))
    ]
    assert texts and pictures
    for name, place in [*texts, *pictures]:
        assert Bbox.intersection(place, page.bbox).size == pytest.approx(place.size), (
            f"{name!r} leaves the page"
        )
    shrunk = [(text, place.padded(-0.5)) for text, place in texts]  # antialiased edges may touch
    for a, b in overlapping(shrunk, shrunk):
        assert a == b, f"{texts[a]} lies on {texts[b]}"
    for a, b in overlapping(shrunk, pictures):
        inside = Bbox.intersection(shrunk[a][1], pictures[b][1])
        assert inside.size == pytest.approx(shrunk[a][1].size), f"{texts[a]} leaves {pictures[b]}"


def overlapping(some, others):
    """Positions (in some, in others) of all that share an area."""
    a, b = (np.array([place.extents for _, place in named]).T for named in (some, others))
    across = (a[0][:, None] < b[2]) & (b[0] < a[2][:, None])
    return np.argwhere(across & (a[1][:, None] < b[3]) & (b[1] < a[3][:, None]))


def drawn(page):
    """The pictures of a page."""
    return page.findobj(Picture)


@pytest.mark.parametrize("sources", [1, 4, 38])
def test_samples_of_any_number_of_sources_are_legible_and_all_there(tmp_path, sources):
    long = "a sentence that is far too long for the place it has " * 12
    names = [f"A-source-with-a-long-name-{number:02d}" for number in range(sources)]
    indexes = []
    for name in names:
        records = [natural_record(name, i, boxes=6, caption=long) for i in range(8)]
        for record in records:
            record.regions[0].text = long
        indexes.append(pack(tmp_path, name, records))
    page, _ = samples_page(indexes, "Figure 6. Natural images of Gran-29M", "mini")
    assert_legible(page)
    words = words_of(page)
    assert {name for name in names if name in words} == set(names)
    assert len(drawn(page)) == sources * layout(sources)[0]
    lefts = {round(picture.get_window_extent().x0) for picture in drawn(page)}
    assert len(lefts) == layout(sources)[1]  # no text widens its column
    assert any(text.endswith("…") for text in words)


def test_a_dense_page_lists_a_dozen_lines_and_says_how_many_there_are(tmp_path):
    index = pack(tmp_path, "Pages", [page_record("Pages", i, lines=120) for i in range(8)])
    page, _ = samples_page([index], "Figure 7. OCR images of Gran-29M", "mini")
    assert_legible(page)
    words = words_of(page)
    assert sum("120 lines, 12 listed" in text for text in words) == 8
    assert "line 0" in words and "line 119" in words  # from the first to the last


def test_a_scale_without_such_sources_still_has_its_figure(tmp_path):
    page, _ = samples_page([], "Figure 7. OCR images of Gran-29M", "mini")
    save_figure(page, tmp_path / "f.png", {})
    assert any("This scale has no such source" in text for text in words_of(page))
    assert Image.open(tmp_path / "f.png").size[0] > 300
    empty = pack(tmp_path, "Nothing", [])
    page, _ = samples_page([empty, pack(tmp_path, "A", [natural_record("A", 1)])], "Figure 6", "mini")
    assert any("Nothing" in text for text in words_of(page))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_lie_on_what_they_name_also_where_exif_turns_the_image(tmp_path, orientation):
    stored, patch = (600, 460), (60, 40, 260, 140)
    width, height = stored if orientation < 5 else stored[::-1]
    shown = exif_to_display(patch, *stored, orientation)
    record = Record("A__1", "A", "natural", width, height, None, [Region(shown, "red")])
    index = pack(tmp_path, "A", [record], image=picture(stored, patch, orientation))
    page, _ = samples_page([index], "Figure 6", "mini")
    save_figure(page, tmp_path / "f.png", {})
    pixels = np.asarray(Image.open(tmp_path / "f.png").convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 240) & (pixels[..., 1:].max(axis=-1) < 25))
    found = (columns.min(), rows.min(), columns.max(), rows.max())
    assert found == pytest.approx(on_page(page, shown, width), abs=4)  # the frame and its label cover the rim
    page.canvas.draw()
    frames = [frame for frame in page.findobj(Rectangle) if frame.get_edgecolor() == to_rgba(colour_of(0))]
    x1, y1, x2, y2 = frames[0].get_window_extent().extents
    height = page.bbox.height
    assert (x1, height - y2, x2, height - y1) == pytest.approx(on_page(page, shown, width), abs=1)


def on_page(page, box, width):
    """Pixels of the page, from its top, where a box of its only picture belongs."""
    page.canvas.draw()
    picture = drawn(page)[0].get_window_extent()
    left, top, scale = picture.x0, page.bbox.height - picture.y1, picture.width / width
    return (left + box[0] * scale, top + box[1] * scale, left + box[2] * scale, top + box[3] * scale)


def test_equal_data_give_equal_bytes_without_a_date(tmp_path):
    index = pack(tmp_path, "A", [natural_record("A", i) for i in range(20)])
    for name in ("a", "b"):
        page, _ = samples_page([index], "Figure 6", "mini")
        save_figure(page, tmp_path / f"{name}.png", {})
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()
    assert not list(tmp_path.glob(".*"))  # no temporary file stays


def test_samples_do_not_depend_on_the_order_of_the_shard(tmp_path):
    records = [natural_record("A", i, boxes=1 + i % 4) for i in range(30)]
    straight = choose_samples(pack(tmp_path / "x", "A", records), 5)
    turned = choose_samples(pack(tmp_path / "y", "A", records[::-1]), 5)
    assert [s.record.key for s in straight] == [s.record.key for s in turned]
    assert all(2 <= len(s.record.regions) <= 8 for s in straight)


def test_images_without_boxes_are_only_shown_where_there_is_nothing_else(tmp_path):
    records = [natural_record("A", i, boxes=0) for i in range(5)] + [natural_record("A", 9, boxes=1)]
    shown = choose_samples(pack(tmp_path, "A", records), 2)
    assert [len(sample.record.regions) for sample in shown] == [1, 0]


def boxed(key, boxes, caption="a view"):
    return Record(
        key, "A", "natural", 600, 500, caption, [Region(list(map(float, b)), f"t{b}") for b in boxes]
    )


def test_figure_2_names_the_rule_that_drops_each_box_as_the_filter_step_does(tmp_path):
    rules = FilterRules()
    records = [
        boxed("A__good", [(0, 0, 200, 200), (10, 10, 300, 250)]),
        boxed("A__some", [(0, 0, 200, 200), (0, 0, 50, 50), (0, 0, 590, 120), (5, 5, 300, 290)]),
        boxed("A__none", [(0, 0, 20, 20)]),
    ]
    index = pack(tmp_path, "A", records, annotated=records)
    annotated = tmp_path / "annotated" / "A" / "00000.jsonl"
    filter_shard(annotated, tmp_path / "f.jsonl", tmp_path / "f.csv", rules)
    kept = {record.key: [r.box for r in record.regions] for record in read_records(tmp_path / "f.jsonl")}
    for record in records:
        dropped_by = explain(record, rules)
        if record.key not in kept:
            assert dropped_by is None
        else:
            stays = [r.box for r, rule in zip(record.regions, dropped_by, strict=True) if rule is None]
            assert stays == kept[record.key]
    chosen = choose_annotation(annotated, index, rules)
    assert chosen.record.key == "A__some"  # the one that loses boxes shows more
    assert chosen.dropped_by == [None, "box_area", "box_aspect", None]
    page = annotation_page(chosen, rules, GIVEN, "mini")
    words = words_of(page)
    assert "2 box_area" in words and "3 box_aspect" in words
    assert any("2 of 4 boxes kept" in text for text in words)
    assert_legible(page)


def test_figure_2_says_which_boxes_the_captioner_was_not_asked_about(tmp_path):
    record = boxed("A__1", [(60, 50, 300, 250), (0, 0, 50, 50)])
    record.regions[1].text = None
    index = pack(tmp_path, "A", [boxed("A__1", [(60, 50, 300, 250)])], annotated=[record])
    chosen = choose_annotation(tmp_path / "annotated" / "A" / "00000.jsonl", index, FilterRules())
    words = " ".join(words_of(annotation_page(chosen, FilterRules(), GIVEN, "mini")))
    assert words.count("(not described: a filter drops it)") == 1


def test_figure_2_shows_the_papers_three_forms_with_the_same_box_in_both(tmp_path):
    index = pack(tmp_path, "A", [boxed("A__1", [(60, 50, 300, 250)])])
    chosen = choose_annotation(tmp_path / "annotated" / "A" / "00000.jsonl", index, FilterRules())
    words = " ".join(words_of(annotation_page(chosen, FilterRules(), GIVEN, "mini")))
    assert "Describe in detail what is shown in the image in one paragraph" in words
    assert words.count("[0.1, 0.1, 0.5, 0.5]") == 3  # where it is computed, in the question and in the answer


def test_figure_2_of_a_dense_page_without_a_caption_is_legible(tmp_path):
    rules = FilterRules(box_aspect=None, min_box_area=None)
    index = pack(tmp_path, "Pages", [page_record("Pages", 1, lines=90)])
    annotated = tmp_path / "annotated" / "Pages" / "00000.jsonl"
    made_by = {"boxes": "ocr", "captions": "none", "text": "ocr"}
    page = annotation_page(choose_annotation(annotated, index, rules), rules, made_by, "mini")
    save_figure(page, tmp_path / "f.png", {"keys": ["A__1"]})
    assert (tmp_path / "f.png").stat().st_size and (tmp_path / "f.pdf").stat().st_size
    assert json.loads((tmp_path / "f.json").read_text()) == {"figure": "f", "keys": ["A__1"]}
    assert_legible(page)
    assert any("82 boxes more" in text for text in words_of(page))


CHINESE = "图中有一只红色的猫坐在窗边的木桌上看着外面的雨" * 8


@pytest.mark.parametrize("text", ["w" * 400, CHINESE, "\U0001fad8 \u0000 $x_1$ {", ""])
def test_figures_are_legible_whatever_the_texts_hold(tmp_path, text):
    record = boxed("A__1", [(10 * i, 10 * i, 500 + 5 * i, 480) for i in range(7)], text)  # boxes on boxes
    for region in record.regions:
        region.text = text
    index = pack(tmp_path, "A", [record])
    chosen = choose_annotation(tmp_path / "annotated" / "A" / "00000.jsonl", index, FilterRules())
    for page in (
        annotation_page(chosen, FilterRules(), GIVEN, "mini"),
        samples_page([index], "Figure 6", "mini")[0],
    ):
        assert_legible(page)


def test_every_listed_box_has_its_number_and_its_colour_also_among_tiny_boxes(tmp_path):
    record = boxed("A__1", [(i % 6 * 9, i // 6 * 9, i % 6 * 9 + 8, i // 6 * 9 + 8) for i in range(60)])
    page, _ = samples_page([pack(tmp_path, "A", [record])], "Figure 6", "mini")
    words = words_of(page)
    assert [words.count(str(number)) for number in range(1, 10)] == [2] * 8 + [
        0
    ]  # in the picture and the list
    colours = [frame.get_edgecolor() for frame in page.findobj(Rectangle)]
    assert [colours.count(to_rgba(colour_of(number))) for number in range(8)] == [1] * 8
    assert_legible(page)


def test_a_shard_of_other_settings_or_without_an_image_is_named(tmp_path):
    plain = boxed("A__1", [(0, 0, 200, 200)])
    better = boxed("A__2", [(0, 0, 200, 200), (0, 0, 9, 9), (0, 0, 150, 150)])
    index = pack(tmp_path, "A", [plain], annotated=[plain, better])
    annotated = tmp_path / "annotated" / "A" / "00000.jsonl"
    with pytest.raises(GranvitError, match="A/2.*is not packed"):
        choose_annotation(annotated, index, FilterRules())
    with pytest.raises(GranvitError, match="no image of this shard passes"):
        choose_annotation(annotated, index, FilterRules(min_image_side=900))


def test_listed_lines_are_spread_over_a_page_and_listed_objects_are_the_largest():
    regions = [Region([0, 0, 10.0 * (i + 1), 10], str(i)) for i in range(30)]
    lines = listed_regions(regions, "ocr", 4)
    assert (lines[0], lines[-1], len(lines)) == (0, 29, 4)
    assert listed_regions(regions, "natural", 3) == [27, 28, 29]
