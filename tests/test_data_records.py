"""Keys, records and shards: what is written is read back, by this project and by WebDataset."""

from __future__ import annotations

import json

import pytest
import webdataset

from granvit.data.records.prompts import (
    GLOBAL_CAPTION_QUESTION,
    bbox2caption_question,
    caption2bbox_question,
)
from granvit.data.records.records import (
    Record,
    Region,
    hash_share,
    make_key,
    read_records,
    readable_key,
    write_records,
)
from granvit.data.records.shards import Sample, ShardWriter, read_image_bytes, read_shard
from granvit.errors import GranvitError

IDS = [
    "000000000009",
    "train2017/0001.jpg",
    "a.b.c",
    "a b",
    "a/b",
    "a__b",
    "a_/b",
    "a/_b",
    "a=2Eb",
    "a//b",
    "a_b",
    "ü/雪",
    "A",
]


def _sample(original_id: str, image: bytes = b"image", extension: str = "jpg") -> Sample:
    record = Record(
        make_key("Source-1", original_id), "Source-1", "natural", 5, 4, regions=[Region([0, 1, 2, 3], "ü")]
    )
    return Sample(record, image, extension)


def test_key_is_one_word_without_dots():
    assert make_key("COCO", "train2017/0001.jpg") == "COCO__train2017__0001=2Ejpg"
    for original_id in IDS:
        assert set(make_key("COCO", original_id)) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_=-"
        )


def test_different_ids_never_share_a_key():
    assert len({make_key("S", original_id) for original_id in IDS}) == len(IDS)


def test_webdataset_reads_back_every_key_image_and_json(tmp_path):
    samples = [_sample(original_id, f"bytes of {original_id}".encode()) for original_id in IDS]
    with ShardWriter(tmp_path / "00000.tar") as writer:
        for sample in samples:
            writer.write(sample)
    read = list(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [sample.record.key for sample in samples]
    for sample, original in zip(read, samples, strict=True):
        assert sample["jpg"] == original.image
        assert Record.from_json(sample["json"]) == original.record


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
def test_byte_range_of_the_index_reads_back_the_image(tmp_path, size):
    long_name = "deep/" * 60  # longer than a plain tar header holds
    samples = [_sample(f"{long_name}{i}", bytes([i]) * size) for i in range(3)]
    with ShardWriter(tmp_path / "a.tar") as writer:
        spans = [writer.write(sample) for sample in samples]
    assert len(spans) == 3
    for sample, (offset, length) in zip(samples, spans, strict=True):
        assert length == size
        assert read_image_bytes(tmp_path / "a.tar", offset, length) == sample.image


def test_range_beyond_the_shard_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"123")
    with pytest.raises(GranvitError, match="a.tar"):
        read_image_bytes(tmp_path / "a.tar", 2, 5)


def test_shard_that_was_cut_off_is_named(tmp_path):
    with ShardWriter(tmp_path / "a.tar") as writer:
        writer.write(_sample("1", b"x" * 4000))
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:2000])
    with pytest.raises(GranvitError, match="a.tar"):
        list(read_shard(tmp_path / "a.tar"))


def test_records_survive_json_lines_with_any_text(tmp_path):
    records = [_sample(text).record for text in IDS]
    records[0].caption = "two\nlines\u2028and a separator"
    write_records(tmp_path / "r.jsonl", records)
    assert list(read_records(tmp_path / "r.jsonl")) == records


def test_record_of_an_older_version_is_read_without_a_perceptual_hash():
    record = _sample("1").record
    record.phash = "00ff00ff00ff00ff"
    assert Record.from_json(record.to_json()) == record
    older = json.loads(record.to_json())
    del older["phash"]
    assert Record.from_json(json.dumps(older)).phash is None


def test_damaged_record_is_named_by_file_and_line(tmp_path):
    good = _sample("1").record.to_json()
    (tmp_path / "r.jsonl").write_text(good + "\n" + json.dumps({"key": "x"}) + "\n")
    with pytest.raises(GranvitError, match=r"r\.jsonl, line 2"):
        list(read_records(tmp_path / "r.jsonl"))


def test_hash_choices_are_independent_between_purposes_and_even():
    keys = [f"k{i}" for i in range(4000)]
    held = {key for key in keys if hash_share(key, "held-out") < 0.5}
    ocr = {key for key in keys if hash_share(key, "ocr") < 0.5}
    assert 0.45 < len(held) / len(keys) < 0.55
    assert 0.45 < len(held & ocr) / len(held) < 0.55


def test_questions_are_the_papers_word_for_word():
    assert GLOBAL_CAPTION_QUESTION == "Describe in detail what is shown in the image in one paragraph"
    assert bbox2caption_question("[0.366, 0.627, 0.575, 0.873]") == (
        "Describe the content contained within the normalized bounding box coordinates "
        "[0.366, 0.627, 0.575, 0.873] in no more than 10 words."
    )
    assert caption2bbox_question("flowers on the table") == (
        "Please provide the bounding box coordinate of the region this sentence describes: "
        "flowers on the table"
    )


@pytest.mark.parametrize("name", ["a/b.jpg", "a__b", "é ü.png", "a_/_b", "100%=x"])
def test_a_key_can_be_read_again(name):
    assert readable_key(make_key("World", name)) == f"World/{name}"
