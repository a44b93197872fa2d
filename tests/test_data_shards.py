"""Shards as other tools see them, byte ranges, and what damage costs."""

from __future__ import annotations

import io
import tarfile

import pytest
import webdataset

from granvit.data.records.records import Record, Region, make_key
from granvit.data.records.shards import (
    RawSample,
    Sample,
    ShardWriter,
    count_samples,
    read_image_bytes,
    read_shard,
)
from granvit.errors import GranvitError

IDS = ["plain", "a.b.c", "deep/er/name.jpg", "Straße-東京", "__dunder__", "x" * 120, "ü" * 40]


def _sample(original_id: str, image: bytes = b"image") -> Sample:
    key = make_key("S", original_id)
    record = Record(key, "S", "natural", 640, 480, regions=[Region([0.0, 1.0, 20.0, 30.5], original_id)])
    return Sample(record, image, "jpg")


def _write(path, samples) -> list[tuple[int, int]]:
    with ShardWriter(path) as writer:
        return [writer.write(sample) for sample in samples]


def test_keys_with_dots_slashes_and_unicode_come_back_whole(tmp_path):
    samples = [_sample(original_id, original_id.encode()) for original_id in IDS]
    _write(tmp_path / "a.tar", samples)
    assert list(read_shard(tmp_path / "a.tar")) == samples
    assert count_samples(tmp_path / "a.tar") == len(IDS)
    read = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [(s["__key__"], s["jpg"]) for s in read] == [(s.record.key, s.image) for s in samples]


def test_key_that_webdataset_would_cut_is_refused(tmp_path):
    with (
        pytest.raises(GranvitError, match=r"a\.tar.*'a\.b'.*make_key"),
        ShardWriter(tmp_path / "a.tar") as writer,
    ):
        writer.write_raw(RawSample("a.b", b"", "jpg", b"{}"))


def test_shard_has_the_bytes_that_tarfile_writes(tmp_path):
    samples = [_sample(original_id, bytes(100 * n)) for n, original_id in enumerate(IDS)]
    _write(tmp_path / "ours.tar", samples)
    with tarfile.open(tmp_path / "theirs.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            for suffix, data in (("jpg", sample.image), ("json", sample.record.to_json().encode())):
                info = tarfile.TarInfo(f"{sample.record.key}.{suffix}")
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


def test_image_beyond_two_gibibytes_is_found_by_its_range(tmp_path):
    path = tmp_path / "a.tar"
    with ShardWriter(path) as writer:
        gap = 5 << 30
        writer._tar.offset += writer._file.seek(gap)  # a hole in place of 5 GiB of samples
        offset, size = writer.write(_sample("far", b"far away"))
    assert offset > gap and read_image_bytes(path, offset, size) == b"far away"


@pytest.fixture
def shard(tmp_path):
    spans = _write(tmp_path / "a.tar", [_sample(name, name.encode() * 300) for name in ("1", "2", "3" * 120)])
    return tmp_path / "a.tar", spans


def test_shard_cut_off_anywhere_is_named(shard):
    path, _ = shard
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in [0, 100, 512, 700, 1024, *range(1536, end + 1024, 512), end + 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(GranvitError, match=r"a\.tar: damaged shard"):
            list(read_shard(path))


def test_damaged_header_is_not_taken_for_the_end(shard):
    path, spans = shard
    data = bytearray(path.read_bytes())
    data[spans[1][0] - tarfile.BLOCKSIZE] ^= 1  # the name in the second image's header
    path.write_bytes(data)
    with pytest.raises(GranvitError, match=r"a\.tar: damaged shard"):
        list(read_shard(path))


@pytest.mark.parametrize(
    "members",
    [
        [("a.json", b"{}")],
        [("a.jpg", b""), ("b.json", b"{}")],
        [("a.jpg", b""), ("b.jpg", b"")],
        [("a.jpg", b"")],
        [("a.jpg", b""), ("a.json", b"not JSON")],
        [("a.jpg", b""), ("a.json", b'{"key": "a"}')],
    ],
)
def test_tar_that_is_no_shard_is_named(tmp_path, members):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(GranvitError, match=r"a\.tar: damaged shard"):
        list(read_shard(tmp_path / "a.tar"))


def test_links_and_folders_are_no_samples(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(GranvitError, match=r"a\.tar: damaged shard"):
        list(read_shard(tmp_path / "a.tar"))
