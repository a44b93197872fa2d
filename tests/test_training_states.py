"""Saved states that the world has damaged: an older whole one is taken; and a disk that is full."""

from __future__ import annotations

import json
import os
import pkgutil
import shutil
from pathlib import Path

import pytest
import torch
from factories import make_job, make_recipe, make_world

from granvit.config.compute import RunCompute
from granvit.errors import GranvitError
from granvit.files import replacing, whole_folder
from granvit.finished import remove_state_of
from granvit.training import checkpoint
from granvit.training.checkpoint import States
from granvit.training.engine import Cluster
from granvit.training.loop import Trainer
from granvit.training.run import train

RECIPE = make_recipe("stage1", epochs=2.0)  # 5 steps of 4 images, a state after 2 and 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("world"))
    world.folder = tmp_path_factory.mktemp("whole")
    start(world, world.folder)
    return world


def start(world, folder) -> None:
    train(make_job(world, RECIPE, folder, compute=RunCompute(keep_states=2)))


def kill(world, folder, monkeypatch) -> None:
    """Run until step 4 is saved, then die."""
    original = Trainer.step

    def dying(self, number):
        if number == 4:
            raise KeyboardInterrupt
        return original(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", dying)
        start(world, folder)
    assert [path.name for path in sorted((folder / "state").glob("step-*"))] == [
        "step-00000002", "step-00000004",
    ]  # fmt: skip


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    """As many bytes, but no state."""
    path.write_bytes(b"\0" * path.stat().st_size)


END = [
    ("granvit.training.run.write_outputs", False), ("granvit.models.mllm.MLLM.save", False),
    ("granvit.training.log.TrainingLog.write", False), ("granvit.training.outputs.write_json", False),
    ("granvit.training.outputs.write_json", True), ("granvit.training.checkpoint.States.finish", False),
    ("granvit.training.checkpoint.States.finish", True), ("granvit.training.engine.Cluster.close", True),
]  # fmt: skip


@pytest.mark.parametrize(("moment", "after"), END)
def test_run_that_dies_at_its_end_is_written_again_without_a_step(
    world, tmp_path, monkeypatch, moment, after
):
    """Also one whose outputs were whole: Snakemake removes them when it did not see the job's end."""
    original = pkgutil.resolve_name(moment)

    def dying(*given, **named):
        if after:
            original(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(moment, dying)
        start(world, tmp_path)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lambda *_: pytest.fail("trained again"))
        start(world, tmp_path)
    for name in ("manifest.json", "training_log.csv", "model/encoder/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (world.folder / "run" / name).read_bytes(), name


def test_state_of_a_finished_run_is_removed_by_who_uses_the_run_and_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path("results/mini/sft/mine/seed1")
    states = [
        Path(f"state/mini/sft/mine/{name}/step-1")
        for name in ("seed1-12345678", "seed1-abc", "seed11-12345678")
    ]
    for folder in states:
        folder.mkdir(parents=True)
    remove_state_of(run, None)
    assert all(folder.is_dir() for folder in states)  # unfinished
    run.mkdir(parents=True)
    (run / "manifest.json").write_text('{"recipe_hash": "1234567890"}')
    owner = states[0].parent / "owner.json"
    owner.touch()
    remove_state_of(run)
    assert all(folder.is_dir() for folder in states)  # somebody is in there
    owner.unlink()
    remove_state_of(run)
    assert [folder.is_dir() for folder in states] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("shared.pt", cut, "shared.pt has "),
        ("shared.pt", lambda path: path.write_bytes(b""), "shared.pt has 0 of "),
        ("rank0.pt", lambda path: path.unlink(), "rank0.pt is missing"),
        ("shared.pt", flip, "shared.pt: "),
        ("fingerprint.json", cut, "fingerprint.json: "),
        ("fingerprint.json", lambda path: path.write_bytes(b""), "fingerprint.json: "),
    ],
    ids=["cut", "empty", "missing", "zeros", "cut fingerprint", "empty fingerprint"],
)
def test_damaged_state_is_named_and_the_one_before_it_taken(world, tmp_path, monkeypatch, name, damage, told):
    kill(world, tmp_path, monkeypatch)
    damage(tmp_path / "state/step-00000004" / name)
    start(world, tmp_path)
    for file in ("manifest.json", "training_log.csv", "model/encoder/model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (world.folder / "run" / file).read_bytes()
    log = (tmp_path / "log.txt").read_text()
    assert f"step-00000004 is damaged: {told}" in log and "going back to the one before" in log


def test_run_whose_states_are_all_damaged_says_so_and_trains_nothing(world, tmp_path, monkeypatch):
    kill(world, tmp_path, monkeypatch)
    for file in (tmp_path / "state").glob("step-*/shared.pt"):
        cut(file)
    with pytest.raises(GranvitError, match=r"none of the 2 saved states in .*state can be read .*remove"):
        start(world, tmp_path)


def test_a_damaged_state_does_not_take_the_place_of_a_whole_one(tmp_path):
    states = States(tmp_path, {"seed": 0}, keep=2, cluster=Cluster("cpu", "ddp", RECIPE))
    for step in (2, 4, 5):
        states.save(step, lambda: ({"step": step}, {}))  # noqa: B023
    cut(tmp_path / "step-00000005/shared.pt")
    assert states.load()[1] == {"step": 4}
    states.save(6, lambda: ({"step": 6}, {}))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000004", "step-00000006"]


def test_damaged_file_of_a_rank_that_is_there_no_more_is_found(tmp_path):
    cluster = Cluster("cpu", "ddp", RECIPE)

    def write(step: int) -> tuple[dict, dict]:
        torch.save({}, tmp_path / f".step-{step:08d}.tmp/rank1.pt")
        return {"step": step}, {}

    before = States(tmp_path, {"ranks": 2, "sharding": "ddp"}, keep=2, cluster=cluster)
    for step in (2, 4):
        before.save(step, lambda: write(step))  # noqa: B023
    flip(tmp_path / "step-00000004/rank1.pt")
    now = States(tmp_path, {"ranks": 1, "sharding": "one process"}, keep=2, cluster=cluster)
    assert now.load()[1] == {"step": 2}


def test_disk_that_fails_is_one_line(tmp_path):
    states = States(tmp_path / "file/state", {"seed": 0}, keep=2, cluster=Cluster("cpu", "ddp", RECIPE))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(GranvitError, match="step-00000002 cannot be written .*Not a directory"):
        states.save(2, lambda: ({}, {}))


def test_full_disk_while_a_state_is_saved_is_one_line_and_leaves_the_states_before(
    world, tmp_path, monkeypatch
):
    kill(world, tmp_path, monkeypatch)

    def full(file):
        with open("/dev/full", "wb", buffering=0) as device:
            os.write(device.fileno(), b"x")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(GranvitError) as raised:
        start(world, tmp_path)
    assert "step-00000005 cannot be written: no space is left" in str(raised.value)
    assert "MiB free in" in str(raised.value) and "\n" not in str(raised.value)
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"step-00000002", "step-00000004"}


@pytest.mark.parametrize("writing", [replacing, whole_folder])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("I/O error: No space left on device")]
)
def test_full_disk_anywhere_names_the_file_and_the_space(tmp_path, writing, error):
    told = r"out/made cannot be written: .* MiB free in"
    with pytest.raises(GranvitError, match=told), writing(tmp_path / "out/made"):
        raise error
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(json.JSONDecodeError), writing(tmp_path / "other"):
        json.loads("{")
