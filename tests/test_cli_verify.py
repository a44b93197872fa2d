"""``granvit verify``: flipped, missing and exchanged files are named, with what makes them again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from runs_world import PARENTS, make_run

from granvit.cli import main
from granvit.data.records.pack import pack_shard
from granvit.data.records.records import Record, write_records
from granvit.data.records.shards import Sample, ShardWriter
from granvit.files import file_hash
from granvit.reporting import verify as verifying
from granvit.training.outputs import described_files

SHARD = Path("results/mini/data/packed/Mine/00000.tar")
MIXTURE = Path("results/mini/data/mixtures/sft-all.parquet")


def run_folder(stage: str) -> Path:
    return Path(f"results/mini/{stage}/{stage}-a/seed0")


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    """projector-a -> stage1-a -> stage2-a -> sft-a, their manifests as training writes them; SFT's mixture; a
    shard of two images."""
    monkeypatch.chdir(tmp_path)
    MIXTURE.parent.mkdir(parents=True)
    MIXTURE.write_bytes(b"questions")
    for number, (stage, parent) in enumerate(PARENTS.items()):
        folder = make_run(Path("results"), f"{stage}-a", stage, parent, finished=1000 + number)
        for part in ("encoder", "llm"):
            (folder / "model" / part).mkdir(parents=True)
            (folder / "model" / part / "model.safetensors").write_bytes(f"{stage} {part}".encode())
        (folder / "training_log.csv").write_text("step,loss\n1,0.5\n")
        manifest = json.loads((folder / "manifest.json").read_text())
        if parent:
            manifest["inputs"]["parent"] = file_hash(run_folder(parent.partition("-")[0]) / "manifest.json")
        if stage == "sft":
            manifest["inputs"]["mixture"] = file_hash(MIXTURE)
        (folder / "manifest.json").write_text(json.dumps(manifest | {"files": described_files(folder)}))
    with ShardWriter("in.tar") as shard:
        records = [Record(f"Mine__{i}", "Mine", "natural", 8, 8) for i in range(2)]
        for number, record in enumerate(records):
            shard.write(Sample(record, b"the bytes of image %d" % number, "png"))
    write_records("in.jsonl", records)
    SHARD.parent.mkdir(parents=True)
    pack_shard("in.tar", "in.jsonl", SHARD, SHARD.with_suffix(".parquet"))


def flip(path: Path, found: bytes) -> None:
    """Another byte in a file, at the same size and time."""
    times = path.stat().st_atime, path.stat().st_mtime
    data = path.read_bytes()
    assert found in data
    path.write_bytes(data.replace(found, bytes([found[0] ^ 1]) + found[1:], 1))
    os.utime(path, times)


def verified(capsys, *options: str) -> tuple[int, str]:
    status = main(["verify", *options])
    return status, capsys.readouterr().out


def test_what_was_written_has_no_fault(capsys):
    assert verified(capsys) == (0, "13 files and shards looked at (bytes): no faults\n")


def test_a_flipped_byte_of_the_weights_is_named_with_the_command_that_makes_them_again(capsys):
    flip(run_folder("stage2") / "model/llm/model.safetensors", b"llm")
    status, said = verified(capsys)
    assert status == 1 and said.splitlines()[0] == (
        "results/mini/stage2/stage2-a/seed0/model/llm/model.safetensors: its bytes are not those that were "
        "written; make it again: `snakemake -f results/mini/stage2/stage2-a/seed0/manifest.json`"
    )
    assert said.splitlines()[1:] == ["13 files and shards looked at (bytes): 1 fault"]
    assert verified(capsys, "--quick")[0] == 0  # sizes are what they were


def test_an_image_that_was_flipped_in_a_shard_is_named(capsys):
    flip(SHARD, b"the bytes of image 1")
    status, said = verified(capsys)
    assert status == 1 and said.startswith(
        f"{SHARD}: image Mine__1: its bytes are not those that were packed"
    )


@pytest.mark.parametrize("quick", [[], ["--quick"]], ids=["bytes", "quick"])
def test_files_that_are_missing_or_cut_off_are_named(capsys, quick):
    (run_folder("sft") / "model/encoder/model.safetensors").unlink()
    with open(run_folder("sft") / "model/llm/model.safetensors", "ab") as file:
        file.write(b"..")
    os.truncate(SHARD, 700)
    status, said = verified(capsys, *quick)
    assert status == 1 and len(said.splitlines()) == 4
    assert "model/encoder/model.safetensors: is missing; " in said
    assert "model/llm/model.safetensors: has 9 bytes instead of 7; " in said
    assert f"{SHARD}: is cut off at 700 bytes; make it again: `snakemake -f {SHARD}`" in said
    SHARD.unlink()
    assert f"{SHARD}: is missing; " in verified(capsys, *quick)[1]


def test_a_run_whose_parent_or_mixture_was_made_anew_is_named(capsys):
    flip(run_folder("stage1") / "manifest.json", b"0.5")
    MIXTURE.write_bytes(b"other questions")
    status, said = verified(capsys)
    assert (
        status == 1
        and "stage2-a/seed0/manifest.json: was trained from another mini/stage1-a/seed0 than " in said
    )
    assert "sft-a/seed0/manifest.json: was trained on another mixture than " in said
    assert said.splitlines()[-1].endswith(": 2 faults")


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files whose bytes were hashed, in their order."""
    names = []
    monkeypatch.setattr(verifying, "file_hash", lambda path: names.append(Path(path).name) or file_hash(path))
    return names


def test_quick_reads_no_large_file(capsys, monkeypatch, read):
    monkeypatch.setattr(verifying, "read_image_bytes", lambda *given: pytest.fail("an image was read"))
    assert verified(capsys, "--quick")[0] == 0
    assert read == ["manifest.json"] * 4


def test_a_mixture_is_read_once_however_many_runs_learned_from_it(capsys, read):
    shutil.copytree(run_folder("sft"), run_folder("sft").with_name("seed1"))
    assert verified(capsys)[0] == 0
    assert read.count(MIXTURE.name) == 1 and read.count("model.safetensors") == 10


def test_a_model_that_was_removed_on_purpose_and_a_run_of_an_older_version_are_no_fault(capsys):
    shutil.rmtree(run_folder("projector") / "model")
    older = run_folder("sft") / "manifest.json"
    older.write_text(json.dumps({k: v for k, v in json.loads(older.read_text()).items() if k != "files"}))
    status, said = verified(capsys)
    assert status == 0 and f"{older.parent}: no hashes, made by an older version" in said


def test_faults_are_read_by_programs_and_a_folder_without_results_is_one_line(capsys, tmp_path):
    flip(run_folder("sft") / "training_log.csv", b"0.5")
    status, said = verified(capsys, "--json")
    (fault,) = json.loads(said)["faults"]
    assert status == 1 and fault["file"] == str(run_folder("sft") / "training_log.csv")
    assert main(["verify", "elsewhere"]) == 1
    assert capsys.readouterr().err.startswith("error: elsewhere: no finished run and no shard below")
