"""Annotate: who writes what, what is counted, and a killed job that goes on where it stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from data_worlds import encode, image_bytes, needs_ocr, read_csv
from PIL import Image, ImageDraw, ImageFont

from granvit.config.loading import load_config
from granvit.data.annotators.annotate import Annotated, annotate_shard
from granvit.data.annotators.choose import annotation_settings, build_annotators
from granvit.data.records.records import Record, Region, Reject, read_records
from granvit.data.records.shards import Sample, ShardWriter
from granvit.data.sources.table import SourceSpec

ROOT = Path(__file__).resolve().parent.parent


class Counting:
    """An annotator that gives each image two boxes, one of which another one may have to name, and remembers
    which images it was asked about."""

    def __init__(self, text="thing", batch_size=1, fails_at=None):
        self.text, self.batch_size, self.fails_at = text, batch_size, fails_at
        self.asked, self.batches, self.closed, self.alive = [], [], False, []
        self._seen = []

    def describe(self):
        return {"boxes": f"counting {self.text!r}"}

    def annotate(self, samples):
        if self.fails_at in [sample.record.key for sample in samples]:
            raise KeyboardInterrupt
        self._seen += [weakref.ref(sample) for sample in samples]
        self.alive.append(sum(sample() is not None for sample in self._seen))
        self.batches.append(len(samples))
        self.asked += [sample.record.key for sample in samples]
        return [Annotated(self._name(sample.record), [Reject("region", "unsure", 1)]) for sample in samples]

    def _name(self, record):
        x = float(int(record.key[1:]))
        regions = [Region([x, 0, x + 9, 9], self.text, 0.5), Region([x, 0, x + 5, 5], "", 0.25)]
        return replace(record, regions=regions)

    def close(self):
        self.closed = True


class Naming(Counting):
    """Gives the regions that have no text one."""

    def describe(self):
        return {"texts": "naming"}

    def _name(self, record):
        return replace(record, regions=[replace(r, text=r.text or "named") for r in record.regions])


def write_shard(path: Path, images: int = 10, regions=()) -> Path:
    with ShardWriter(path) as shard:
        for i in range(images):
            record = Record(f"k{i}", "World", "natural", 600, 500, regions=list(regions))
            shard.write(Sample(record, image_bytes(f"{path.name}{i}", size=(60, 50)), "jpg"))
    return path


def run(tar: Path, annotators, out: Path, journal: Path | None = None, log: Path | None = None):
    """Annotate, and give the bytes of the three outputs."""
    outputs = [out / name for name in ("a.jsonl", "rejects.csv", "counts.csv")]
    annotate_shard(tar, *outputs, annotators, journal, log)
    return [path.read_bytes() for path in outputs]


def test_a_source_that_brings_everything_passes_through_as_it_is(tmp_path):
    given = [Region([1, 2, 30, 40], "a cup"), Region([5, 5, 20, 20], "a spoon", 0.5)]
    tar = write_shard(tmp_path / "in.tar", 4, given)
    run(tar, [], tmp_path)
    records = list(read_records(tmp_path / "a.jsonl"))
    assert [record.key for record in records] == ["k0", "k1", "k2", "k3"]
    assert all(record.regions == given for record in records)
    assert (tmp_path / "rejects.csv").read_text() == "key,what,cause,regions,path\n"
    assert "World,sequence,annotate,4,4,8,8\n" in (tmp_path / "counts.csv").read_text()


def test_annotators_work_one_after_the_other_and_leave_their_names(tmp_path):
    tar = write_shard(tmp_path / "in.tar", 3)
    first, second = Counting(), Naming()
    run(tar, [first, second], tmp_path)
    for record in read_records(tmp_path / "a.jsonl"):
        assert [region.text for region in record.regions] == ["thing", "named"]
        assert record.provenance == {"boxes": "counting 'thing'", "texts": "naming"}
    assert first.closed and second.closed


def test_regions_without_a_text_are_rejected_and_all_regions_are_accounted_for(tmp_path):
    tar = write_shard(tmp_path / "in.tar", 3)
    run(tar, [Counting()], tmp_path)
    records = list(read_records(tmp_path / "a.jsonl"))
    assert all([region.text for region in record.regions] == ["thing"] for record in records)
    rejects = read_csv(tmp_path / "rejects.csv")
    assert [(r["key"], r["what"], r["cause"], r["regions"]) for r in rejects] == [
        (f"k{i}", "region", cause, "1") for i in range(3) for cause in ("unsure", "no_region_text")
    ]
    rows = {row["rule"]: row for row in read_csv(tmp_path / "counts.csv")}
    assert (rows["annotate"]["regions_in"], rows["annotate"]["regions_out"]) == ("9", "3")
    for cause in ("unsure", "no_region_text"):
        lost = sum(int(r["regions"]) for r in rejects if r["cause"] == cause)
        assert int(rows[cause]["regions_in"]) - int(rows[cause]["regions_out"]) == lost == 3
    assert {row["images_out"] for row in rows.values()} == {"3"}


def test_the_rows_of_the_counts_are_a_chain_from_what_was_found_to_what_is_left(tmp_path):
    run(write_shard(tmp_path / "in.tar", 3), [Counting()], tmp_path)
    *causes, outcome = read_csv(tmp_path / "counts.csv")
    assert [row["regions_in"] for row in causes[1:]] == [row["regions_out"] for row in causes[:-1]]
    assert causes[0]["regions_in"] == outcome["regions_in"]
    assert causes[-1]["regions_out"] == outcome["regions_out"]


@pytest.mark.parametrize("sizes", [(3, 1), (1, 4), (4, 3)])
def test_each_annotator_gets_batches_of_its_own_size(tmp_path, sizes):
    tar = write_shard(tmp_path / "in.tar")
    first, second = Counting(batch_size=sizes[0]), Naming(batch_size=sizes[1])
    many = run(tar, [first, second], tmp_path)
    assert max(first.batches) == sizes[0] and max(second.batches) == sizes[1]
    assert first.asked == second.asked == [f"k{i}" for i in range(10)]
    assert many == run(tar, [Counting(), Naming()], tmp_path)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stopped_job_goes_on_without_asking_twice_and_gives_the_same_bytes(tmp_path, batch_size):
    tar, journal, log = write_shard(tmp_path / "in.tar"), tmp_path / "state/j.jsonl", tmp_path / "log"
    whole = run(tar, [Counting(batch_size=batch_size)], tmp_path / "whole")
    first, second = Counting(batch_size=batch_size, fails_at="k7"), Counting(batch_size=batch_size)
    with pytest.raises(KeyboardInterrupt):
        run(tar, [first], tmp_path / "out", journal)
    assert not list((tmp_path / "out").iterdir()) and first.closed
    assert run(tar, [second], tmp_path / "out", journal, log) == whole
    assert first.asked + second.asked == [f"k{i}" for i in range(10)]
    assert f"{len(first.asked)} images taken from the journal" in log.read_text()
    assert not journal.exists()


def stopped_journal(tmp_path, tar) -> Path:
    journal = tmp_path / "j.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(tar, [Counting(batch_size=2, fails_at="k6")], tmp_path / "out", journal)
    return journal


@pytest.mark.parametrize("kept", [0, 5, 60, -1, -40])
def test_a_journal_cut_off_anywhere_costs_only_what_was_cut(tmp_path, kept):
    tar = write_shard(tmp_path / "in.tar")
    whole = run(tar, [Counting(batch_size=2)], tmp_path / "whole")
    journal = stopped_journal(tmp_path, tar)
    content = journal.read_bytes()
    journal.write_bytes(content[:kept])
    left = max(0, content[:kept].count(b"\n") - 1)
    again = Counting(batch_size=2)
    assert run(tar, [again], tmp_path / "out", journal) == whole
    assert again.asked == [f"k{i}" for i in range(2 * left, 10)]


def test_a_damaged_line_of_a_journal_and_what_follows_is_done_again(tmp_path):
    tar = write_shard(tmp_path / "in.tar")
    whole = run(tar, [Counting(batch_size=2)], tmp_path / "whole")
    journal = stopped_journal(tmp_path, tar)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b'{"chunk": "' + lines[2][30:], *lines[3:]]))
    again = Counting(batch_size=2)
    assert run(tar, [again], tmp_path / "out", journal) == whole
    assert again.asked == [f"k{i}" for i in range(2, 10)]


def test_a_journal_of_other_settings_or_of_another_shard_is_not_used(tmp_path):
    tar, other = write_shard(tmp_path / "in.tar"), write_shard(tmp_path / "other.tar")
    for shard, annotator in [(tar, Counting("item", 2)), (other, Counting("thing", 2))]:
        journal = stopped_journal(tmp_path, tar)
        run(shard, [annotator], tmp_path / "out", journal)
        assert annotator.asked == [f"k{i}" for i in range(10)]


def test_no_more_than_two_chunks_of_images_are_held_at_a_time(tmp_path):
    annotator = Counting(batch_size=4)
    run(write_shard(tmp_path / "in.tar", 60), [annotator], tmp_path, tmp_path / "j.jsonl")
    assert len(annotator.asked) == 60 and max(annotator.alive) <= 8


def row(**changes) -> SourceSpec:
    fields = {"name": "S", "data_type": "natural", "group": "g", "use": "pretrain", "adapter": "coco"}
    fields |= {"path": "p", "boxes": "given", "captions": "given", "text": "given", "shards": 1}
    return SourceSpec(**(fields | changes))


def changed(data, section, **values):
    return data.model_copy(update={section: getattr(data, section).model_copy(update=values)})


def test_only_the_settings_of_a_sources_own_annotators_count():
    data = load_config("mini").data
    photos = row(boxes="detector", captions="captioner", text="captioner")
    pages = row(data_type="ocr", boxes="ocr", captions="none", text="ocr")
    stricter = changed(data, "ocr", min_score=0.9)
    assert annotation_settings(pages, stricter) != annotation_settings(pages, data)
    assert annotation_settings(photos, stricter) == annotation_settings(photos, data)
    assert annotation_settings(row(), stricter) == annotation_settings(row(), data)
    surer = changed(data, "detector", min_score=0.9)
    assert annotation_settings(photos, surer) != annotation_settings(photos, data)


def test_filters_count_where_annotators_pass_over_what_they_drop():
    data = load_config("mini").data
    natural = data.filters.natural.model_copy(update={"min_box_area": 9.0})
    looser = data.model_copy(update={"filters": data.filters.model_copy(update={"natural": natural})})
    found, described = row(boxes="detector", text="none"), row(text="captioner")
    page = row(data_type="ocr", boxes="ocr", text="ocr")
    assert annotation_settings(described, looser) != annotation_settings(described, data)
    for source in (found, page, row(), row(data_type="ocr", text="captioner")):
        assert annotation_settings(source, looser) == annotation_settings(source, data)
    natural = data.filters.natural.model_copy(update={"min_image_side": 9})
    smaller = data.model_copy(update={"filters": data.filters.model_copy(update={"natural": natural})})
    assert annotation_settings(found, smaller) != annotation_settings(found, data)
    assert annotation_settings(row(), smaller) == annotation_settings(row(), data)


def test_settings_of_speed_annotate_nothing_anew():
    data = load_config("mini").data
    photos = row(boxes="detector", captions="captioner", text="captioner")
    faster = changed(data, "detector", batch_size=64)
    faster = changed(faster, "captioner", url="http://elsewhere/v1", concurrency=99, retries=1)
    assert annotation_settings(photos, faster) == annotation_settings(photos, data)


def test_a_source_gets_the_annotators_of_its_row_and_no_other(tmp_path):
    config = load_config("mini")

    def names(source):
        chosen = annotation_settings(source, config.data)
        built = build_annotators(chosen, config.data, config.compute, 1, tmp_path / "answers.jsonl")
        return [type(annotator).__name__ for annotator in built]

    assert names(row()) == []
    assert names(row(boxes="none", captions="none", text="none")) == []
    assert names(row(boxes="ocr", captions="none", text="ocr")) == ["OcrReader"]
    assert names(row(boxes="detector", captions="captioner", text="captioner")) == ["Detector", "Captioner"]
    assert names(row(captions="captioner")) == ["Captioner"]


KILLED = """
import sys
from granvit.data.annotators.annotate import annotate_shard
from granvit.data.annotators.ocr import OcrEngine, OcrReader
tar, out, models = sys.argv[1:]
outputs = [f"{out}/{name}" for name in ("a.jsonl", "rejects.csv", "counts.csv")]
annotate_shard(tar, *outputs, [OcrReader(OcrEngine(models), 0.5)], f"{out}/j.jsonl", f"{out}/log")
"""


@pytest.mark.slow
@needs_ocr
def test_a_killed_ocr_job_ends_in_the_same_bytes_and_reads_no_page_twice(tmp_path):
    with ShardWriter(tmp_path / "in.tar") as shard:
        for i in range(8):
            page = Image.new("RGB", (320, 120), "white")
            font = ImageFont.load_default(28)
            ImageDraw.Draw(page).text((20, 40), f"Receipt no {i} of 8", "black", font)
            shard.write(Sample(Record(f"k{i}", "Pages", "ocr", 320, 120), encode(page, "PNG"), "png"))

    def start(out: str) -> subprocess.Popen:
        command = [sys.executable, "-c", KILLED, str(tmp_path / "in.tar"), str(tmp_path / out)]
        return subprocess.Popen(
            [*command, str(tmp_path / "models")], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )

    assert start("whole").wait() == 0
    killed, journal = start("out"), tmp_path / "out/j.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert killed.poll() is None, "the job ended before it could be killed"
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done = journal.read_bytes().count(b"\n") - 1
    assert not (tmp_path / "out/a.jsonl").exists()
    assert start("out").wait() == 0
    assert f"{done} images taken from the journal" in (tmp_path / "out/log").read_text()
    for name in ("a.jsonl", "rejects.csv", "counts.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "Receipt no 7 of 8" in (tmp_path / "out/a.jsonl").read_text()
    assert len(list(read_records(tmp_path / "out/a.jsonl"))) == 8
