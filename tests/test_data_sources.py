"""The sources files: the paper's rows, and mistakes told with file, line, column and value."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_worlds import read_csv, spec

from granvit.data.sources.adapters import ADAPTERS
from granvit.data.sources.table import _option_mistakes, read_sources
from granvit.errors import GranvitError

CONFIG = Path(__file__).resolve().parent.parent / "config"
HEADER = "name\tdata_type\tgroup\tuse\tadapter\tpath\tboxes\tcaptions\ttext\tshards"
ROW = "Mine\tnatural\tUMG-41M\tpretrain\tcoco\tdata/Mine\tgiven\tcaptioner\tgiven\t2"


def _write(tmp_path, *lines):
    (tmp_path / "s.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "s.tsv"


def test_a_row_becomes_a_source(tmp_path):
    source = read_sources(_write(tmp_path, HEADER, ROW))["Mine"]
    assert (source.adapter, source.path, source.shard_names()) == ("coco", "data/Mine", ["00000", "00001"])
    assert (source.boxes, source.captions, source.text) == ("given", "captioner", "given")
    assert (source.row, source.settings, source.reported_images) == (f"{tmp_path}/s.tsv, line 2", {}, None)


def test_options_notes_and_counts_are_read(tmp_path):
    header = HEADER + "\toptions\torigin\tfetch\tlicence\treported_images\treported_regions"
    row = ROW + "\t annotations = a.json ; images=train;\thttps://x.y/a=b\thf download 'a b'\tcc-by-4.0\t5\t7"
    source = read_sources(_write(tmp_path, header, row))["Mine"]
    assert source.settings == {"annotations": "a.json", "images": "train"}
    assert (source.origin, source.fetch, source.licence) == (
        "https://x.y/a=b",
        "hf download 'a b'",
        "cc-by-4.0",
    )
    assert (source.reported_images, source.reported_regions) == (5, 7)


def test_a_line_that_moves_leaves_the_source_equal(tmp_path):
    first = read_sources(_write(tmp_path, HEADER, ROW))["Mine"]
    second = read_sources(_write(tmp_path, HEADER, ROW.replace("Mine", "Other"), ROW))["Mine"]
    assert (first == second, first.row == second.row) == (True, False)


def test_papers_38_sources_are_those_of_table_6_with_its_counts():
    paper = {
        row["source"]: (row["data_type"].lower(), int(row["images"]), int(row["regions"]))
        for row in read_csv(CONFIG / "reported/gran29m_sources.csv")
    }
    pretrain = [s for s in read_sources(CONFIG / "sources.tsv").values() if s.use == "pretrain"]
    ours = {s.name: (s.data_type, s.reported_images, s.reported_regions) for s in pretrain}
    assert len(ours) == 38
    assert ours == paper


def test_papers_sources_are_annotated_as_section_3_says():
    umg = {"CC3M", "IN21k", "SBU", "CC12M", "YFCC15M", "VisualGenome"}
    sources = read_sources(CONFIG / "sources.tsv")
    assert umg <= sources.keys()
    for source in sources.values():
        how = (source.boxes, source.captions, source.text)
        if source.use != "pretrain":
            assert how == ("none", "none", "none")
        elif source.data_type == "ocr":
            assert how == ("ocr", "none", "ocr")
        else:
            assert how == ("given" if source.name in umg else "detector", "captioner", "captioner")
            assert (source.adapter == "umg") == (source.name in umg)


@pytest.mark.parametrize(
    ("boxes", "captions", "text", "annotated"),
    [
        ("given", "given", "given", False),
        ("none", "none", "none", False),
        ("given", "captioner", "given", True),
        ("detector", "given", "captioner", True),
        ("ocr", "none", "ocr", True),
        ("given", "none", "none", True),  # regions without a text are rejected by annotating
    ],
)
def test_only_sources_that_a_model_adds_to_are_annotated(tmp_path, boxes, captions, text, annotated):
    assert spec(tmp_path, boxes=boxes, captions=captions, text=text).is_annotated == annotated


def test_every_paper_source_says_where_it_comes_from_and_under_what_terms():
    sources = read_sources(CONFIG / "sources.tsv")
    assert len(sources) >= 38
    for source in sources.values():
        assert source.origin
        assert source.licence
        assert not source.fetch or source.path in source.fetch


def test_both_scales_have_data_for_every_stage():
    for name in ("sources.tsv", "sources_mini.tsv"):
        uses = {source.use for source in read_sources(CONFIG / name).values()}
        assert uses == {"pretrain", "projector", "sft", "continued"}


def test_every_adapter_says_what_options_it_takes():
    assert all(adapter.options for adapter in ADAPTERS.values())
    assert set(ADAPTERS) == {
        "coco", "folder", "llava", "visual_genome", "umg", "line_boxes", "parquet", "tars", "urls",
        "yolo", "voc", "paddle_labels", "metadata_jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            ROW.replace("coco", "vok"),
            ["line 2: adapter: 'vok'", "'coco', 'folder', 'llava'", "'parquet', 'tars' or 'urls'"],
        ),
        (ROW.replace("natural", "photo"), ["data_type", "'photo'"]),
        (ROW.replace("\t2", "\tmany"), ["shards", "'many'"]),
        (ROW.replace("\t2", "\t0"), ["shards", "'0'"]),
        (ROW.replace("data/Mine", ""), ["path: empty"]),
        (ROW.replace("Mine\tn", "My source\tn"), ["name", "'My source'"]),
        (ROW.replace("captioner", "model"), ["captions", "'model'", "'given', 'captioner' or 'none'"]),
        (
            ROW.replace("given\tcaptioner", "ocr\tcaptioner"),
            ["text is 'given'", "boxes is 'ocr'", "one of ocr"],
        ),
        (ROW.replace("given\tcaptioner\tgiven", "ocr\tnone\tocr"), ["boxes 'ocr'", "'natural'"]),
        (
            ROW.replace("given\tcaptioner\tgiven", "detector\tnone\tgiven"),
            ["boxes is 'detector'", "captioner"],
        ),
        (
            ROW.replace("given\tcaptioner\tgiven", "none\tnone\tnone"),
            ["boxes is 'none'", "'natural'", "filters"],
        ),
        (ROW.replace("data/Mine", "hf://datasets/a/b"), ["'hf://datasets/a/b'", "'coco' needs a folder"]),
        (ROW + "\textra", ["more values than columns"]),
        (ROW + "\n" + ROW, ["line 3", "'Mine' is given twice"]),
    ],
)
def test_wrong_value_is_named(tmp_path, wrong, told):
    with pytest.raises(GranvitError) as error:
        read_sources(_write(tmp_path, HEADER, wrong))
    for part in ["s.tsv", *told]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("adapter", "options", "told"),
    [
        ("coco", "file=x", ["line 2", "options", "'coco' has no 'file'", "annotations: the JSON file"]),
        ("coco", "annotations", ["'annotations' is no `name=value`"]),
        ("coco", "images=a;images=b", ["'images' is given twice"]),
        ("urls", "url=link", ["'urls' needs list=..."]),
    ],
)
def test_wrong_options_are_named_with_those_that_there_are(tmp_path, adapter, options, told):
    row = ROW.replace("coco", adapter) + "\t" + options
    with pytest.raises(GranvitError) as error:
        read_sources(_write(tmp_path, HEADER + "\toptions", row))
    for part in ["s.tsv", *told]:
        assert part in str(error.value)


def test_a_url_is_a_path_for_parquet(tmp_path):
    row = ROW.replace("coco", "parquet").replace("data/Mine", "hf://datasets/a/b")
    source = read_sources(_write(tmp_path, HEADER, row))["Mine"]
    assert (source.is_remote, source.root) == (True, "hf://datasets/a/b")


def test_wrong_columns_are_named(tmp_path):
    with pytest.raises(GranvitError, match="column 'shards' is missing.*optional options, origin"):
        read_sources(_write(tmp_path, HEADER.replace("\tshards", ""), ROW))
    with pytest.raises(GranvitError, match="unknown column 'colour'"):
        read_sources(_write(tmp_path, HEADER + "\tcolour", ROW + "\tred"))
    with pytest.raises(GranvitError, match="column 'text' is there twice"):
        read_sources(_write(tmp_path, HEADER + "\ttext", ROW + "\tgiven"))
    with pytest.raises(GranvitError, match="absent.tsv: no such file; set data.sources"):
        read_sources(tmp_path / "absent.tsv")
    with pytest.raises(GranvitError, match="no rows"):
        read_sources(_write(tmp_path, HEADER))


def test_the_papers_sft_row_says_the_frame_of_its_boxes_and_the_docs_say_why():
    sources = read_sources(CONFIG / "sources.tsv")
    assert sources["Open-LLaVA-NeXT-1M"].turn_boxes == "padded_square"
    docs = (CONFIG.parent / "docs" / "data.md").read_text()
    assert all(f"issue {number}" in docs for number in (606, 623, 822, 1833))


@pytest.mark.parametrize(
    ("adapter", "options", "told"),
    [
        ("llava", "turn_boxes=square", "turn_boxes is 'square'; expected one of original, padded_square"),
        (
            "coco",
            "box_format=xyhw",
            "box_format is 'xyhw'; expected one of xyxy, xywh, cxcywh, xyxy_relative",
        ),
        ("umg", "box_format=x", "box_format is 'x'"),
        ("voc", "first_pixel=2", "first_pixel is '2'; expected one of 1, 0"),
        ("voc", "difficult=1", "difficult is '1'; expected one of leave_out, keep"),
    ],
)
def test_a_word_that_an_option_does_not_know_is_told_with_those_it_does(adapter, options, told):
    source = spec(Path("raw"), adapter=adapter, options=options)
    assert any(told in mistake for mistake in _option_mistakes(source))
