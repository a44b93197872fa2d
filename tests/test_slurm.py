"""Both shipped profiles on a real SLURM of two nodes on this host (tests/slurm),
with a site's edits only."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import call, copy_repository, environment
from slurm.cluster import Slurm, cluster, missing
from slurm.site import fit_profile

pytestmark = [pytest.mark.graph, pytest.mark.skipif(bool(missing()), reason=f"no SLURM: {missing()}")]
RUN = "results/smoke/projector/projector-siglip2/seed0"
SAME = ["manifest.json", "training_log.csv", "model/projector/model.safetensors"]


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A checkout in which one training run was made without a cluster."""
    folder = copy_repository(tmp_path_factory.mktemp("local"))
    call(folder, "snakemake", "--config", "scale=smoke", "--", f"{RUN}/manifest.json")
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "run") as started:
        yield started


def checkout(local: Path, folder: Path, kind: str, **size: int) -> Path:
    """A copy with the run's data, but without the run, and a profile that fits the cluster."""
    shutil.copytree(local, folder, symlinks=True)
    shutil.rmtree(folder / RUN)
    fit_profile(folder, kind, **size)
    return folder


def start(slurm: Slurm, folder: Path, *options: str) -> subprocess.Popen:
    """Start the run of a checkout on the cluster; the profile is the one that is named first."""
    own = environment(folder)
    path = f"{slurm.environment['PATH'].split(':')[0]}:{own['PATH']}"
    command = ["snakemake", "--profile", *options, "--", f"{RUN}/manifest.json"]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**own, "PATH": path, "SLURM_CONF": slurm.environment["SLURM_CONF"]},
    )  # fmt: skip


def finish(process: subprocess.Popen, seconds: float = 300) -> str:
    """Its output; it has to succeed."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output[-6000:]
    return output


@pytest.fixture(scope="module")
def runs(local, slurm, tmp_path_factory) -> dict[str, Path]:
    """The run on one node of the npu profile and on two nodes of the gpu profile, side by side."""
    root = tmp_path_factory.mktemp("runs")
    folders = {
        "npu": checkout(local, root / "a checkout/npu", "npu"),
        "gpu": checkout(local, root / "gpu", "gpu", nodes=2),
    }
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda kind: finish(start(slurm, folders[kind], kind)), folders))
    return folders


def submitted(slurm: Slurm, folder: Path) -> list[str]:
    """What a checkout's calls of sbatch ask for, from the partition on, without the folder."""
    calls = [line for line in slurm.sbatch_lines() if str(folder) in line]
    return [line.partition(" -p ")[2].replace(f" -D {folder}", "") for line in calls]


def test_run_on_a_cluster_gives_the_bytes_of_a_local_one(runs, local):
    for name in SAME:
        assert (runs["npu"] / RUN / name).read_bytes() == (local / RUN / name).read_bytes(), name


def test_run_on_two_nodes_has_a_rank_on_each_and_the_same_losses(runs, local):
    read = (json.loads((folder / RUN / "manifest.json").read_text()) for folder in (runs["gpu"], local))
    manifest, alone = read
    assert (manifest["ranks"], alone["ranks"]) == (2, 1)
    assert manifest["metrics"]["loss"] == pytest.approx(alone["metrics"]["loss"], rel=1e-4)


def test_jobs_ask_for_their_devices_and_for_nodes_by_number(runs, slurm):
    size = "test -t 10 --mem 4000"
    assert submitted(slurm, runs["gpu"]) == [f"{size} --nodes=2 --ntasks=2 --cpus-per-task=1 --gres=gpu:1"]
    seen = {(sample.nodes, sample.gres) for sample in slurm.samples if sample.state == "RUNNING"}
    assert {("n[1-2]", "gres:gpu:1"), ("n1", "gres:npu:1")} & seen
    assert any(" --nodes=1 --ntasks=1 --cpus-per-task=1" in line and "--gres=npu:1" in line
               for line in slurm.sbatch_lines())  # fmt: skip
