"""Mistakes in a sources file are told with file, line, column and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from granvit.data.sources import read_sources
from granvit.errors import GranvitError

CONFIG = Path(__file__).resolve().parent.parent / "config"
HEADER = "name\tdata_type\tgroup\tuse\tadapter\tpath\tannotator\tshards"
ROW = "Mine\tnatural\tUMG-41M\tpretrain\tcoco\tdata/Mine\tgiven\t2"


def _write(tmp_path, *lines):
    (tmp_path / "s.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "s.tsv"


def test_a_row_becomes_a_source(tmp_path):
    source = read_sources(_write(tmp_path, HEADER, ROW))["Mine"]
    assert (source.adapter, source.path, source.shard_names()) == ("coco", "data/Mine", ["00000", "00001"])


def test_papers_38_sources_sum_to_table_6():
    sources = read_sources(CONFIG / "sources.tsv").values()
    pretrain = [source for source in sources if source.use == "pretrain"]
    assert len(pretrain) == 38
    assert sum(source.reported_images for source in pretrain) == pytest.approx(29.51e6, abs=5e3)
    assert sum(source.reported_regions for source in pretrain) == pytest.approx(183.55e6, abs=1e4)


def test_both_scales_have_data_for_every_stage():
    for name in ("sources.tsv", "sources_mini.tsv"):
        uses = {source.use for source in read_sources(CONFIG / name).values()}
        assert uses == {"pretrain", "projector", "sft", "continued"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (ROW.replace("coco", "voc"), ["line 2", "adapter", "'voc'", "coco, folder, llava"]),
        (ROW.replace("natural", "photo"), ["data_type", "'photo'"]),
        (ROW.replace("\t2", "\tmany"), ["shards", "'many'"]),
        (ROW.replace("\t2", "\t0"), ["shards", "'0'"]),
        (ROW.replace("data/Mine", ""), ["path is empty"]),
        (ROW.replace("Mine\tn", "My source\tn"), ["name", "'My source'"]),
        (ROW.replace("given", "ocr"), ["annotator 'ocr'", "natural"]),
        (ROW + "\textra", ["more values than columns"]),
        (ROW + "\n" + ROW, ["line 3", "'Mine' is given twice"]),
    ],
)
def test_wrong_value_is_named(tmp_path, wrong, told):
    with pytest.raises(GranvitError) as error:
        read_sources(_write(tmp_path, HEADER, wrong))
    for part in ["s.tsv", *told]:
        assert part in str(error.value)


def test_wrong_columns_are_named(tmp_path):
    with pytest.raises(GranvitError, match="column 'shards' is missing"):
        read_sources(_write(tmp_path, HEADER.replace("\tshards", ""), ROW))
    with pytest.raises(GranvitError, match="unknown column 'colour'"):
        read_sources(_write(tmp_path, HEADER + "\tcolour", ROW + "\tred"))
    with pytest.raises(GranvitError, match="no such sources file"):
        read_sources(tmp_path / "absent.tsv")
