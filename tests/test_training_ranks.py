"""Several ranks are one trainer: same losses, exact resume after kill -9, signals, and one manifest."""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import factories
import psutil
import pytest
import torch
from factories import STAGE_TASKS, make_mixtures, make_recipe, make_world
from forks import address_of
from safetensors.torch import load_file, save_file

from granvit import fork_server
from granvit.config.compute import RunCompute
from granvit.config.schema import LLMSpec
from granvit.errors import GranvitError
from granvit.training.job import EXIT_SAVED, Job
from granvit.training.launch import launch, launch_command

TESTS = Path(__file__).parent
PARTS = ("encoder", "projector", "llm")
TORCHRUN = "torchrun --standalone --nproc-per-node {devices}"
FORKED = [sys.executable, str(TESTS / "forked_ranks.py")]
FORKS = f"{shlex.join(FORKED)} {{devices}}"  # what torchrun does, in a tenth of the time
ONE_RANK, TWO_RANKS = [*FORKED, "1"], [*FORKED, "2"]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="DeepSpeed builds its CPU collectives with g++, which is not there"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)  # as the ranks do: another number of threads gives other last bits
    world = make_world(tmp_path_factory.mktemp("world"))
    world.mixtures = make_mixtures(tmp_path_factory.mktemp("mixtures"), images=12)
    return world


@pytest.fixture(scope="module", autouse=True)
def server():
    """What the ranks are forked from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS.parent))
        patch.setenv(fork_server.ADDRESS, address_of("jobs"))
        yield


@pytest.fixture(autouse=True)
def own_interpreter(monkeypatch):
    """The launcher of the environment that the tests run in, one thread a rank."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def make_job(world, stage: str, folder: Path, sharding: str = "ddp", **recipe) -> Job:
    settings = {"save_every": 1, **recipe}
    compute = RunCompute(sharding=sharding, keep_states=2)
    given = {"mixture": world.mixtures[stage], "heldout": world.heldout, "log": None, "compute": compute}
    return factories.make_job(world, make_recipe(stage, **settings), folder, **given)


def weights(folder: Path) -> dict[str, dict]:
    return {part: load_file(folder / f"run/model/{part}/model.safetensors") for part in PARTS}


def assert_same_bits(first: Path, second: Path) -> None:
    for part, values in weights(first).items():
        others = weights(second)[part]
        assert values.keys() == others.keys()
        assert all(value.equal(others[name]) for name, value in values.items()), part


def log_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "run/training_log.csv") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in log_rows(folder)]


def importing() -> dict[str, str]:
    """The environment of a process that imports the package under test."""
    return {**os.environ, "PYTHONPATH": str(TESTS.parent)}


def run_troubled(job: Job, launcher: list[str], trouble: str, step: int, rank: int) -> int:
    """Run a job with trouble on one rank (troubled_rank.py); the exit code."""
    file = job.state_dir / "job.json"
    file.parent.mkdir(parents=True)
    file.write_text(job.model_dump_json())
    witness = str(file.parent.with_name("witness"))
    environment = {
        **importing(), "TROUBLE": trouble, "AT": str(step), "ON_RANK": str(rank), "WITNESS": witness,
    }  # fmt: skip
    command = [*launcher, str(file)]
    return subprocess.run(command, env=environment, timeout=900).returncode  # a hang is a failure


def die(job: Job, launcher: list[str], step: int, rank: int = 0) -> None:
    """Run a job whose rank is killed (SIGKILL) after the optimizer step `step`, before its state is saved."""
    assert run_troubled(job, launcher, "die", step, rank) != 0
    assert not job.out_dir.exists()


@pytest.mark.ranks
@pytest.mark.parametrize("stage", STAGE_TASKS)
def test_stage_killed_at_any_step_resumes_to_the_same_bits(world, tmp_path, stage):
    whole, killed = make_job(world, stage, tmp_path / "whole"), make_job(world, stage, tmp_path / "killed")
    launch(whole, None, 1, 1)
    die(killed, ONE_RANK, random.randrange(3))
    launch(killed, None, 1, 1)
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")


@needs_compiler
@pytest.mark.ranks
def test_two_zero2_ranks_killed_at_any_step_resume_to_the_same_bits_and_learn_as_one(world, tmp_path):
    """A teacher is there, and everything learns."""
    all_parts = dict.fromkeys(PARTS, True)
    one, whole, killed = (
        make_job(world, "stage1", tmp_path / name, sharding, trains=all_parts)
        for name, sharding in (("one", "ddp"), ("whole", "zero2"), ("killed", "zero2"))
    )
    launch(one, None, 1, 1)
    launch(whole, TORCHRUN, 2, 1)
    die(killed, TWO_RANKS, random.randrange(3), random.randrange(2))
    launch(killed, FORKS, 2, 1)
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    manifest = json.loads((tmp_path / "whole/run/manifest.json").read_text())
    assert (manifest["ranks"], manifest["sharding"]) == (2, "zero2")


@needs_compiler
@pytest.mark.ranks
@pytest.mark.parametrize("sharding", ["ddp", "zero3"])
def test_two_ranks_give_the_losses_and_weights_of_one(world, tmp_path, sharding):
    heldout = {"eval_every": 2, "eval_images": 3}  # one rank has an image more than the other
    launch(make_job(world, "sft", tmp_path / "one", **heldout), None, 1, 1)
    launch(make_job(world, "sft", tmp_path / "two", sharding, **heldout), FORKS, 2, 1)
    one, two = log_rows(tmp_path / "one"), log_rows(tmp_path / "two")
    assert len(one) == 4
    for first, second in zip(one, two, strict=True):
        for name, value in first.items():
            assert second[name] == value == "" or float(second[name]) == pytest.approx(float(value), rel=1e-5)
    for part, values in weights(tmp_path / "one").items():
        others = weights(tmp_path / "two")[part]
        assert values.keys() == others.keys()
        assert all(value.allclose(others[name], atol=1e-4) for name, value in values.items()), part


@needs_compiler
@pytest.mark.ranks
@pytest.mark.parametrize(("sharding", "step"), [("ddp", 2), ("zero2", 2), ("zero2", 0)])
def test_loss_that_is_nan_on_one_rank_changes_nothing_on_any(world, tmp_path, sharding, step):
    job = make_job(world, "stage1", tmp_path / "troubled", sharding)
    compute = job.compute.model_copy(update={"max_bad_steps": 2})
    job = job.model_copy(update={"compute": compute, "log": tmp_path / "log.txt"})
    assert run_troubled(job, TWO_RANKS, "nan", step, rank=1) == 0
    log = (tmp_path / "log.txt").read_text()
    assert f"loss is nan at step {step + 1}; this step changed nothing. Images of the batch: stage1-" in log
    assert log.partition("Images of the batch: ")[2].splitlines()[0].count("stage1-") == 4  # of both ranks
    hashes = [(tmp_path / f"troubled/witness.{rank}").read_text().split() for rank in range(2)]
    assert len({hash for pair in hashes for hash in pair}) == 1  # before = after, on both ranks


@needs_compiler
@pytest.mark.ranks
def test_bf16_on_zero2_ranks_keeps_fp32_weights_and_the_losses_of_one_process(world, tmp_path):
    launch(make_job(world, "sft", tmp_path / "one", precision="bf16"), None, 1, 1)
    launch(make_job(world, "sft", tmp_path / "two", "zero2", precision="bf16"), FORKS, 2, 1)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=5e-3)
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "two")["llm"].values())


@needs_compiler
@pytest.mark.ranks
def test_frozen_llm_in_bf16_on_zero2_ranks_comes_back_as_it_was_published(world, tmp_path):
    published = shutil.copytree(world.llm.path, tmp_path / "published")
    rounded = {name: value.bfloat16() for name, value in load_file(published / "model.safetensors").items()}
    save_file(rounded, published / "model.safetensors", {"format": "pt"})
    for name, sharding, launcher, ranks in (("one", "ddp", None, 1), ("two", "zero2", FORKS, 2)):
        job = make_job(world, "stage1", tmp_path / name, sharding, precision="bf16")
        compute = job.compute.model_copy(update={"frozen_bf16": True})
        llm = LLMSpec(path=str(published))
        launch(job.model_copy(update={"compute": compute, "llm": llm}), launcher, ranks, 1)
        found = weights(tmp_path / name)["llm"]
        assert found and all(value.equal(rounded[key]) for key, value in found.items())
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=5e-3)


@pytest.mark.ranks
def test_signal_to_the_launching_process_saves_on_all_ranks_and_exits_with_its_code(world, tmp_path):
    job = make_job(world, "stage1", tmp_path / "stopped", epochs=200.0)
    process, ranks = start_in_a_process(job, tmp_path)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(120) == EXIT_SAVED
    assert not psutil.wait_procs(ranks, 30)[1]
    states = sorted(job.state_dir.glob("step-*"))
    assert len(states) == 2  # the last two stay, as keep_states says
    assert sorted(path.name for path in states[-1].iterdir()) == [
        "fingerprint.json", "rank0.pt", "rank1.pt", "shared.pt",
    ]  # fmt: skip


@pytest.mark.ranks
def test_ranks_end_when_the_launching_process_is_killed(world, tmp_path):
    job = make_job(world, "projector", tmp_path, epochs=500.0)
    process, ranks = start_in_a_process(job, tmp_path)
    process.kill()
    assert ranks and not psutil.wait_procs(ranks, 60)[1]


def start_in_a_process(job: Job, folder: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A process that launches two ranks, and what it has started, once the run has saved a state."""
    script = "import sys; from granvit.training.launch import Job, launch\n"
    script += f"launch(Job.model_validate_json(open(sys.argv[1]).read()), {TORCHRUN!r}, 2, 1)\n"
    (folder / "job.json").write_text(job.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", script, folder / "job.json"], env=importing())
    end = time.monotonic() + 120
    while not list(job.state_dir.glob("step-*")):
        assert process.poll() is None and time.monotonic() < end, "no state was saved in time"
        time.sleep(0.1)
    return process, psutil.Process(process.pid).children(recursive=True)


@needs_compiler
@pytest.mark.ranks
@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("sharding", ["ddp", "zero2", "zero3"])
def test_run_saved_by_some_ranks_goes_on_with_another_number(world, tmp_path, first, then, sharding, capfd):
    whole, moved = (make_job(world, "sft", tmp_path / name, sharding) for name in ("whole", "moved"))
    launch(whole, None, 1, 1)
    die(moved, [*FORKED, str(first)], step=2)
    launch(moved, *((None, 1, 1) if then == 1 else (FORKS, then, 1)))
    ranks = {1: "one process", 2: f"2 ranks ({sharding})", 3: f"3 ranks ({sharding})"}
    told = f"step-00000002 is of {ranks[first]}; going on with {ranks[then]}"
    assert told in capfd.readouterr().err
    assert losses(tmp_path / "moved") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    own, other = weights(tmp_path / "moved"), weights(tmp_path / "whole")
    for part, values in own.items():
        for name, value in values.items():
            torch.testing.assert_close(value, other[part][name], rtol=1e-3, atol=1e-5)


@needs_compiler
@pytest.mark.ranks
def test_two_zero3_ranks_killed_at_any_step_resume_to_the_same_bits(world, tmp_path):
    whole, killed = (make_job(world, "sft", tmp_path / name, "zero3") for name in ("whole", "killed"))
    launch(whole, FORKS, 2, 1)
    die(killed, TWO_RANKS, random.randrange(3), random.randrange(2))
    launch(killed, FORKS, 2, 1)
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.ranks
def test_full_disk_of_a_rank_that_prints_nothing_is_told_and_leaves_the_states_before(world, tmp_path, capfd):
    job = make_job(world, "projector", tmp_path)
    assert run_troubled(job, TWO_RANKS, "full", step=1, rank=1) != 0
    assert "step-00000002 cannot be written: no space is left" in capfd.readouterr().err
    assert sorted(path.name for path in job.state_dir.glob("*step*")) == ["step-00000001"]


def test_state_of_deepspeeds_own_files_is_refused_and_says_what_to_do(world, tmp_path):
    job = make_job(world, "stage1", tmp_path)
    die(job, ONE_RANK, 1)
    folder = next(job.state_dir.glob("step-*"))
    shared = torch.load(folder / "shared.pt")
    del shared["model"], shared["optimizer"]
    torch.save(shared, folder / "shared.pt")
    (folder / "zero").mkdir()
    shutil.copy(folder / "rank0.pt", folder / "rank1.pt")
    said = json.loads((folder / "fingerprint.json").read_text())
    said["files"] = {file.name: file.stat().st_size for file in folder.glob("*.pt")}
    (folder / "fingerprint.json").write_text(json.dumps({**said, "ranks": 2, "sharding": "zero2"}))
    with pytest.raises(GranvitError, match=f"{folder} was written by an older version.* remove"):
        launch(job, None, 1, 1)


def test_launcher_of_a_profile_is_filled_in(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda word: word)
    template = "srun --nodes={nodes} torchrun --nproc-per-node={devices} --rdzv-endpoint={host}:{port}"
    command = launch_command(template, 8, 16, Path("state/job.json"))
    assert command[:4] == ["srun", "--nodes=16", "torchrun", "--nproc-per-node=8"]
    assert command[-3:] == ["-m", "granvit.training.launch", "state/job.json"]
    deepspeed = launch_command("deepspeed --num_gpus {devices}", 8, 1, Path("job.json"))
    assert deepspeed[:3] == ["deepspeed", "--num_gpus", "8"] and "--module" in deepspeed


def test_launcher_that_cannot_be_is_refused_by_its_key(world, tmp_path):
    job = make_job(world, "stage1", tmp_path)
    with pytest.raises(GranvitError, match=r"compute\.launcher: null, .* 2 x 8 devices"):
        launch(job, None, 8, 2)
    with pytest.raises(GranvitError, match=r"compute\.launcher: 'nosuchrun' is not on PATH"):
        launch(job, "nosuchrun {devices}", 2, 1)
    with pytest.raises(GranvitError, match=r"compute\.launcher: .*\{gpus\}.* places are \{devices\}"):
        launch(job, "torchrun {gpus}", 2, 1)
