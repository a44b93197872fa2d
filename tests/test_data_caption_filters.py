"""The captioner is asked about nothing that the filters drop, and the filters still count all of it."""

from __future__ import annotations

import json

import pytest
from caption_server import about_region, captioner, playing, sample, text_of, write_shard
from data_worlds import read_csv

from granvit.config.data import FilterRules
from granvit.data.annotators.annotate import annotate_shard
from granvit.data.records.filters import filter_shard
from granvit.data.records.records import read_records
from granvit.errors import GranvitError

RULES = FilterRules()
BIG, WIDE, SMALL = [10.0, 10.0, 210.0, 310.0], [0.0, 0.0, 590.0, 120.0], [300.0, 300.0, 350.0, 350.0]
PICTURES = [
    sample(0, [SMALL, BIG, WIDE], (600, 500)),
    sample(1, [SMALL, WIDE], (600, 500)),
    sample(2, [BIG], (600, 440)),
    sample(3, [BIG, [20.0, 20.0, 200.0, 200.0]], (600, 500)),
]


def name(request: dict) -> str:
    """Answers that tell questions apart."""
    return f"Thing {sum(text_of(request).encode())}." if about_region(request) else "A plain ground."


@pytest.fixture
def server():
    with playing(name) as running:
        yield running


def annotated_and_filtered(folder, url, filters):
    folder.mkdir()
    in_tar = write_shard(folder / "00000.tar", PICTURES)
    out = [folder / name for name in ("annotated.jsonl", "rejects.csv", "annotated.csv")]
    annotate_shard(in_tar, *out, [captioner(folder, url=url, filters=filters)], folder / "journal")
    filter_shard(out[0], folder / "filtered.jsonl", folder / "filtered.csv", RULES)
    return folder


def test_what_the_filters_drop_costs_no_question_and_changes_no_result(server, tmp_path):
    whole = annotated_and_filtered(tmp_path / "whole", server.url, None)
    assert len(server.requests) == 4 + 8
    server.requests.clear()
    short = annotated_and_filtered(tmp_path / "short", server.url, RULES)
    assert len(server.requests) == 2 + 3  # of the two images that pass

    def content(folder):
        records = [vars(record) | {"provenance": None} for record in read_records(folder / "filtered.jsonl")]
        return json.dumps(records, default=vars)

    assert content(short) == content(whole) and content(short).count("Thing") == 3
    for counts in ("annotated.csv", "filtered.csv", "rejects.csv"):
        assert (short / counts).read_bytes() == (whole / counts).read_bytes()


def test_a_dropped_region_keeps_nothing_of_what_the_source_said(server, tmp_path):
    folder = annotated_and_filtered(tmp_path / "short", server.url, RULES)
    records = list(read_records(folder / "annotated.jsonl"))
    assert [[r.text and r.text.split()[0] for r in record.regions] for record in records] == [
        ["Thing", None, None], [None, None], [None], ["Thing", "Thing"]
    ]  # fmt: skip
    assert [record.caption for record in records] == ["A plain ground.", None, None, "A plain ground."]
    assert not read_csv(folder / "rejects.csv")


def test_looser_filters_need_a_new_annotation_which_asks_only_what_is_new(server, tmp_path):
    folder = annotated_and_filtered(tmp_path / "short", server.url, RULES)
    loose = FilterRules(min_box_area=None)
    with pytest.raises(GranvitError, match=r"annotated\.jsonl: S/0: .*\[300\.0, .*annotated under stricter"):
        filter_shard(folder / "annotated.jsonl", folder / "loose.jsonl", folder / "loose.csv", loose)
    assert not (folder / "loose.jsonl").exists()
    asked = len(server.requests)
    captioner(folder, url=server.url, filters=loose).annotate(PICTURES)
    assert len(server.requests) == asked + 3  # two small boxes, and the caption of an image that passes now


def test_captions_alone_are_asked_for_images_that_pass_and_boxes_keep_the_sources_texts(server, tmp_path):
    made = captioner(tmp_path, regions=False, url=server.url, filters=RULES).annotate(PICTURES)
    assert len(server.requests) == 2
    assert [result.record.caption is None for result in made] == [False, True, True, False]
    texts = [region.text for result in made for region in result.record.regions]
    assert texts == ["old"] * 8 and not any(result.rejects for result in made)
