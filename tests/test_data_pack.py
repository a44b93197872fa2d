"""Packing: what other tools read of it, what it refuses, and what a kill leaves."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_worlds import edit_coco, image_bytes, ingest, prepare, spec, write_coco, write_llava

from granvit.data.records.pack import pack_shard
from granvit.data.records.records import Record, Region, read_records, write_records
from granvit.data.records.shards import Sample, ShardWriter, read_shard
from granvit.errors import GranvitError

TESTS = Path(__file__).parent


def _shard(folder: Path, images: int, size: int = 3000) -> tuple[Path, Path]:
    """An ingested tar and its filtered records, every third of which lost a region and every fifth of which
    is gone."""
    records = []
    with ShardWriter(folder / "in.tar") as writer:
        for number in range(images):
            box = [0.0, 0.1, 20.25, 30.0]
            regions = [Region(box, "ein Straßenschild", 0.5), Region(box, "two\nlines")]
            record = Record(f"S__{number:06d}", "S", "natural", 640, 480, "caption", regions)
            writer.write(Sample(record, hashlib.sha256(b"%d" % number).digest() * (size // 32), "jpg"))
            if number % 3 == 0:
                record.regions = regions[:1]
            if number % 5:
                records.append(record)
    write_records(folder / "in.jsonl", records)
    return folder / "in.tar", folder / "in.jsonl"


def test_webdataset_and_pyarrow_alone_read_shard_and_index(tmp_path):
    root = write_coco(tmp_path / "raw", images=5)
    (root / "images/4.jpg").write_bytes(image_bytes("a PNG by its bytes", form="PNG"))
    (index,) = prepare(spec(root), tmp_path / "out")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(TESTS / "read_shards_snippet.py"), index.with_suffix(".tar"), index]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == sorted(f"World__{number}" for number in range(5))
    assert all(line[1:] == ["600", "3", "True"] for line in lines)


@pytest.mark.parametrize("name", ["read_shards_snippet.py", "load_dataset_snippet.py"])
def test_the_documentation_shows_the_code_that_is_tried(name):
    code = (TESTS / name).read_text().partition('"""\n\n')[2].rstrip("\n")
    assert "sys.argv[1:]" in code  # the split above found the code
    documentation = (TESTS.parent / "docs/data.md").read_text()
    shown = documentation.partition("\n## Using the shards elsewhere\n")[2].partition("\n## ")[0]
    assert f"```python\n{code}\n```\n" in shown


@pytest.mark.parametrize("backwards", [False, True])
def test_datasets_reads_all_tars_together_whatever_the_first_ones_lack(tmp_path, backwards):
    """Captions that begin late, no regions before or behind others, a JPEG here, a PNG there, one turned."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    root = write_coco(tmp_path / "raw", images=9)
    edit_coco(root, lambda content: [content["images"][number].pop("caption") for number in range(6)])
    (root / "images/7.jpg").write_bytes(image_bytes("a PNG by its bytes", form="PNG"))
    (root / "images/8.jpg").write_bytes(image_bytes("turned", orientation=6))
    chat = {"adapter": "llava", "data_type": "instruction", "use": "sft", "name": "Chat", "captions": "none"}
    chats = prepare(spec(write_llava(tmp_path / "chat"), **chat), tmp_path / "out")
    tars = [index.with_suffix(".tar") for index in chats + prepare(spec(root), tmp_path / "out")]
    tars = tars[::-1] if backwards else tars
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(TESTS / "load_dataset_snippet.py"), *map(str, tars)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    captions = [f"view {number}" if number > 5 else None for number in range(9)]
    sizes = [(500, 600) if number == 8 else (600, 500) for number in range(9)]
    world = [f"World__{number} {sizes[number]} {captions[number]} 3" for number in range(9)]
    chat = [f"Chat__{number}=2Epng (600, 500) None 0" for number in range(6)]
    assert sorted(done.stdout.splitlines()) == sorted(world + chat)


def test_datasets_alone_reads_the_index(tmp_path):
    import datasets

    (index,) = prepare(spec(write_coco(tmp_path / "raw", images=4)), tmp_path / "out")
    rows = datasets.Dataset.from_parquet(str(index), cache_dir=str(tmp_path / "cache"))
    assert rows["key"] == [f"World__{number}" for number in range(4)]
    assert rows[0]["regions"][0]["text"] == "thing 0 of 0"


def test_packed_records_are_the_filtered_ones_and_images_are_untouched(tmp_path):
    tar, records = _shard(tmp_path, 30)
    pack_shard(tar, records, tmp_path / "out.tar", tmp_path / "out.parquet")
    packed, before = list(read_shard(tmp_path / "out.tar")), {s.record.key: s for s in read_shard(tar)}
    assert [sample.record for sample in packed] == list(read_records(records)) and len(packed) == 24
    assert all(sample.image == before[sample.record.key].image for sample in packed)
    with ShardWriter(tmp_path / "again.tar") as writer:
        spans = [writer.write(sample) for sample in packed]
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["offset"], row["size"]) for row in rows] == spans
    for row, sample in zip(rows, packed, strict=True):
        assert row["image_sha256"] == hashlib.sha256(sample.image).hexdigest()
        assert row["regions"] == [vars(region) for region in sample.record.regions]


def test_shard_that_lost_all_its_records_is_empty_and_readable(tmp_path):
    tar, records = _shard(tmp_path, 3)
    records.write_bytes(b"")
    pack_shard(tar, records, tmp_path / "out.tar", tmp_path / "out.parquet")
    assert list(read_shard(tmp_path / "out.tar")) == []
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize("change", ["order", "unknown", "damaged"])
def test_records_that_do_not_fit_the_tar_leave_no_output(tmp_path, change):
    tar, path = _shard(tmp_path, 6)
    records = list(read_records(path))
    if change == "order":
        records.reverse()
    records[1].key = "S__un=20known" if change == "unknown" else records[1].key
    write_records(path, records)
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:-20])
    told = "record 'S/un known' has no image" if change == "unknown" else ""
    with pytest.raises(GranvitError, match=rf"in\.jsonl.*{told}"):
        pack_shard(tar, path, tmp_path / "out.tar", tmp_path / "out.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "in.tar"]


PACK = """
import sys
from granvit.data.records.pack import pack_shard
pack_shard(*sys.argv[1:])
"""


def _pack_killed_at(paths: list[Path], share: float, whole: int) -> int:
    """Start packing in a process of its own, kill it -9 once its temporary tar holds ``share`` of its bytes;
    the bytes it held when it was seen last."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    process = subprocess.Popen([sys.executable, "-c", PACK, *map(str, paths)], env=environment)
    out, seen = paths[2], -1
    while process.poll() is None and seen < share * whole:
        sizes = [path.stat().st_size for path in out.parent.glob(f".{out.name}.{process.pid}.tmp")]
        seen = max([seen, *sizes])
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return seen


@pytest.mark.slow
def test_pack_killed_at_any_point_and_run_again_gives_the_same_bytes(tmp_path):
    tar, records = _shard(tmp_path, 1500, size=100_000)
    expected = tmp_path / "whole.tar", tmp_path / "whole.parquet"
    pack_shard(tar, records, *expected)
    whole, killed_inside = expected[0].stat().st_size, 0
    for number, share in enumerate([0.0, 0.1, 0.4, 0.8]):
        outputs = tmp_path / f"{number}.tar", tmp_path / f"{number}.parquet"
        seen = _pack_killed_at([tar, records, *outputs], share, whole)
        killed_inside += 0 <= seen < whole
        for path in outputs:  # whole or not there
            assert not path.exists() or path.read_bytes() == expected[outputs.index(path)].read_bytes()
        pack_shard(tar, records, *outputs)
        assert [path.read_bytes() for path in outputs] == [path.read_bytes() for path in expected]
    assert killed_inside >= 3


def test_packing_twice_gives_the_same_bytes_from_ingest_on(tmp_path):
    source = spec(write_coco(tmp_path / "raw"))
    first, second = (prepare(source, tmp_path / run)[0] for run in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".tar").read_bytes() == second.with_suffix(".tar").read_bytes()
    assert len(list(read_shard(ingest(source, tmp_path / "a")))) == 12
