"""Both shipped profiles on a real SLURM of three nodes on this host (tests/slurm),
with a site's edits only."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, call, copy_repository, environment
from slurm.cluster import Slurm, cluster, missing
from slurm.site import fit_profile

pytestmark = [
    pytest.mark.graph,
    pytest.mark.skipif(bool(missing()), reason=f"no SLURM: {missing()}"),
]
RUN = "results/smoke/projector/projector-siglip2/seed0"
SAME = ["manifest.json", "training_log.csv", "model/projector/model.safetensors"]


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A checkout in which one training run was made without a cluster."""
    folder = copy_repository(tmp_path_factory.mktemp("local"))
    scale = folder / "config/scales/smoke.yaml"  # long enough to be cut off on the way
    old, new = (
        "projector: 2.0e-3}, batch_size: 4, save_every: 2}",
        "projector: 2.0e-3}, batch_size: 4, save_every: 4, epochs: 20}",
    )
    assert old in scale.read_text()
    scale.write_text(scale.read_text().replace(old, new))
    call(folder, "snakemake", "--config", "scale=smoke", "--", f"{RUN}/manifest.json")
    assert not list(folder.glob("state/smoke/*/*/*"))  # its end was seen
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "run") as started:
        yield started


def checkout(local: Path, folder: Path, kind: str, **site: int | str) -> Path:
    """A copy with the run's data, but without the run, and a profile that fits the cluster."""
    shutil.copytree(local, folder, symlinks=True)
    shutil.rmtree(folder / RUN)
    fit_profile(folder, kind, **site)
    return folder


def start(
    slurm: Slurm, folder: Path, *options: str, target: str = f"{RUN}/manifest.json"
) -> subprocess.Popen:
    """Start the run of a checkout on the cluster; the profile is the one that is named first."""
    own = environment(folder)
    path = f"{slurm.environment['PATH'].split(':')[0]}:{own['PATH']}"
    command = ["snakemake", "--profile", *options, "--", target]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**own, "PATH": path, "SLURM_CONF": slurm.environment["SLURM_CONF"]},
    )  # fmt: skip


def finish(process: subprocess.Popen, seconds: float = 300) -> str:
    """Its output; it has to succeed."""
    output = end_of(process, seconds)
    assert process.returncode == 0, output[-6000:]
    return output


def end_of(process: subprocess.Popen, seconds: float = 300) -> str:
    """Its output, however it ends."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    return output


def until(condition, seconds: float = 200):
    """What a condition gives once it holds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def job_with_a_state(slurm: Slurm, folder: Path, process: subprocess.Popen) -> str:
    """The id of a checkout's job, once its run has saved a state."""
    until(lambda: process.poll() is not None or list(folder.glob("state/smoke/**/fingerprint.json")))
    assert process.poll() is None, process.stdout.read()[-6000:]
    lines = slurm.ask("squeue", "--noheader", "--states=running", "--format=%i|%Z").splitlines()
    return next(line.partition("|")[0] for line in lines if line.endswith(f"|{folder}"))


def cancelled_on_the_way(slurm: Slurm, folder: Path) -> str:
    """Run a checkout on two nodes; its job is cancelled once. What Snakemake said."""
    process = start(slurm, folder, "gpu")
    slurm.ask("scancel", job_with_a_state(slurm, folder, process))
    return finish(process)


def left_alone_on_the_way(slurm: Slurm, folder: Path) -> str:
    """Run a checkout on one node; Snakemake is killed, its job lives on. What the next Snakemake said."""
    process = start(slurm, folder, "npu")
    job = job_with_a_state(slurm, folder, process)
    owner = next(folder.glob("state/smoke/*/*/*/owner.json"))
    os.kill(json.loads(owner.read_text())["process"], signal.SIGSTOP)  # so that it does not end meanwhile
    process.kill()
    process.communicate()
    call(folder, "snakemake", "--unlock")
    refused = start(slurm, folder, "npu")
    said = end_of(refused)
    assert refused.returncode == 1 and f"still in SLURM's queue ({job})" in said, said[-3000:]
    slurm.ask("scancel", job)
    until(lambda: not slurm.ask("squeue", "--noheader", "--jobs", job, "--states=running,completing").strip())
    finish(start(slurm, folder, "npu"))
    return said


@dataclass
class Held:
    """A turn of a run whose trainer was stopped after it had saved a state of its own."""

    job: str  # SLURM's
    owner: int  # the process of the workflow's script
    trainer: psutil.Process
    saved: set[str]


def held_further_on(folder: Path, process: subprocess.Popen, before: Held | None = None) -> Held:
    """Wait for such a turn of a checkout's run, after the one ``before``, and stop its trainer."""

    def further() -> Held | None:
        assert process.poll() is None, process.stdout.read()[-6000:]
        for file in folder.glob("state/smoke/*/*/*/owner.json"):
            owner = json.loads(file.read_text() or "{}")
            saved = {path.name for path in file.parent.glob("step-*")} - (before.saved if before else set())
            if saved and (not before or owner["process"] != before.owner):
                trainer = psutil.Process(owner["process"]).children(recursive=True)[-1]
                return Held(owner["job"], owner["process"], trainer, saved)
        return None

    held = until(further)
    held.trainer.suspend()
    time.sleep(1)  # a write that has begun ends
    held.saved = {path.name for path in folder.glob("state/smoke/*/*/*/step-*")}
    return held


def hit_by_everything(slurm: Slurm, folder: Path) -> str:
    """Run a checkout on one node: its first turn fails by itself, the node of the second one goes down, the
    third one meets its time limit. What Snakemake said."""
    log = folder / "results/smoke/logs/pretrain_projector/projector-siglip2-seed0.log"
    process = start(slurm, folder, "npu")
    first = held_further_on(folder, process)
    first.trainer.kill()
    second = held_further_on(folder, process, first)
    slurm.lose(next(sample.nodes for sample in slurm.jobs() if sample.job == second.job))
    third = held_further_on(folder, process, second)
    until(lambda: "before the job's time limit: saving" in log.read_text())
    third.trainer.resume()
    said = finish(process)
    assert first.job != second.job == third.job
    return said


@pytest.fixture(scope="module")
def runs(local, slurm, tmp_path_factory) -> dict[str, Path]:
    """The run on one node of the npu profile, twice, and on two nodes of the gpu profile, side by side, each
    cut off on the way; `said` holds what was printed."""
    root = tmp_path_factory.mktemp("runs")
    folders = {
        "npu": checkout(local, root / "a checkout/npu", "npu"),
        "gpu": checkout(local, root / "gpu", "gpu", nodes=2),
        "hit": checkout(local, root / "hit", "npu", partition="other", minutes=2),
    }
    with ThreadPoolExecutor() as pool:
        alone = pool.submit(left_alone_on_the_way, slurm, folders["npu"])
        cancelled = pool.submit(cancelled_on_the_way, slurm, folders["gpu"])
        hit = pool.submit(hit_by_everything, slurm, folders["hit"])
        folders["said"] = {"npu": alone.result(), "gpu": cancelled.result(), "hit": hit.result()}
    return folders


def submitted(slurm: Slurm, folder: Path) -> list[str]:
    """What a checkout's calls of sbatch ask for, from the partition on, without the folder."""
    calls = [line for line in slurm.sbatch_lines() if f" -D {folder}" in line]
    return [line.partition(" -p ")[2].replace(f" -D {folder}", "") for line in calls]


@pytest.mark.parametrize("cut", ["npu", "hit"])
def test_run_that_was_cut_off_gives_the_bytes_of_a_local_one(runs, local, cut):
    for name in SAME:
        assert (runs[cut] / RUN / name).read_bytes() == (local / RUN / name).read_bytes(), name


def test_job_that_fails_is_sent_again_and_one_that_loses_its_node_or_its_time_is_not(runs, slurm):
    said = runs["said"]["hit"]
    assert said.count("SLURM status is: 'FAILED'") == said.count("Trying to restart job") == 1
    asked = submitted(slurm, runs["hit"])
    assert len(asked) == 2 and all(line.startswith("other -t 2 ") for line in asked)


def test_run_on_two_nodes_has_a_rank_on_each_and_the_same_losses(runs, local):
    read = (json.loads((folder / RUN / "manifest.json").read_text()) for folder in (runs["gpu"], local))
    manifest, alone = read
    assert (manifest["ranks"], alone["ranks"]) == (2, 1)
    assert manifest["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], rel=1e-3)


def test_cancelled_job_is_sent_again_and_goes_on(runs):
    assert "SLURM status is: 'CANCELLED'" in runs["said"]["gpu"]
    assert "Trying to restart job" in runs["said"]["gpu"]


def test_jobs_ask_for_their_devices_and_for_nodes_by_number(runs, slurm):
    size = "test -t 10 --mem 4000"
    two = f"{size} --nodes=2 --requeue --ntasks=2 --cpus-per-task=1 --gres=gpu:1"
    assert submitted(slurm, runs["gpu"]) == [two, two]
    one = f"{size} --nodes=1 --requeue --ntasks=1 --cpus-per-task=1 --gres=npu:1"
    assert submitted(slurm, runs["npu"]) == [one, one]


def test_jobs_hold_the_devices_that_they_ask_for(runs, slurm):
    seen = {(sample.nodes, sample.gres) for sample in slurm.samples if sample.state == "RUNNING"}
    assert {"gres:gpu:1", "gres:npu:1"} == {gres for _, gres in seen}
    assert {nodes for nodes, gres in seen if gres == "gres:gpu:1"} == {"n[1-2]"}
    assert {nodes for nodes, gres in seen if gres == "gres:npu:1"} <= {"n1", "n2", "n3"}
    log = (runs["npu"] / "results/smoke/logs/pretrain_projector/projector-siglip2-seed0.log").read_text()
    assert re.search(r"devices: NPU \d of this node, of SLURM job \d+", log)


def test_state_is_gone_once_snakemake_has_seen_the_end(runs):
    assert not list(runs["npu"].glob("state/smoke/*/*/*")) and not list(runs["gpu"].glob("state/smoke/*/*/*"))


def test_check_of_the_cluster_measures_both_nodes_and_leaves_nothing(runs, slurm):
    said = finish(start(slurm, runs["gpu"], "gpu", target="check_cluster"))
    rows = re.findall(r"^\| (n[12]) \| (\d) \| cpu x86_64 \| ([\d.]+) \| (\S+) \| \d+ \| \d+ \|$", said, re.M)
    assert {node for node, *_ in rows[:2]} == {"n1", "n2"} and [rank for _, rank, *_ in rows[:2]] == [
        "0",
        "1",
    ]
    assert all(float(rate) > 0 and float(bandwidth) > 0 for *_, rate, bandwidth in rows[:2])
    assert [bandwidth for *_, bandwidth in rows[2:]] == ["-"]  # the job of one device
    assert "check_cluster: everything is as the profile asks" in said
    assert not list((runs["gpu"] / "results/smoke/cluster").rglob("*.bin"))


def test_jobs_of_a_cluster_meet_no_fork_server(runs, slurm):
    assert all("fork server: none" in line for line in slurm.sbatch_lines())


def test_two_jobs_of_one_node_see_a_device_each(slurm, tmp_path):
    command = (
        f"{sys.executable} -c 'from granvit.slurm import show_own_devices as show; print(show())'; sleep 5"
    )
    asked = ["--gres=npu:1", "--mem=100", "--nodelist=n2", "--chdir", str(ROOT), "--wrap", command]
    for name in ("one", "other"):
        slurm.ask("sbatch", "--output", str(tmp_path / name), *asked)
    seen = [
        until(lambda file=tmp_path / name: file.is_file() and file.read_text(), 60)
        for name in ("one", "other")
    ]
    numbers = {re.fullmatch(r"devices: NPU (\d) of this node, of SLURM job \d+\s*", text)[1] for text in seen}
    assert len(numbers) == 2
