"""A profile is there as a whole, or the run stops in seconds and says what is gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import call, copy_repository, environment

from granvit.errors import GranvitError
from granvit.graph.profiles import (
    profiles_named,
    require_layout,
    require_one_scale,
    require_report_target,
    require_slurm,
    require_whole,
    sbatch_arguments,
)

TARGET = "results/smoke/projector/projector-siglip2/seed0/manifest.json"
PROFILE = """
config: [scale=paper]
configfile: profiles/mine/compute.yaml
resources: [questions=256]
default-resources: {mem_mb: 1, nodes: 1}
set-resources: {train: {gres: "'npu:8'", nodes: 1}, score: {nodes: 1}}
"""


@pytest.mark.parametrize(
    ("arguments", "variable", "names"),
    [
        (["--profile", "npu", "-n", "x"], None, ["npu"]),
        (["--profile=npu", "--profile", "mine"], "gpu", ["npu", "mine"]),
        (["x"], "gpu", ["gpu"]),
        (["--profile", "none"], "gpu", []),
        (["-n", "--", "--profile", "npu"], None, []),
    ],
)
def test_profile_is_named_by_option_or_variable(arguments, variable, names):
    assert profiles_named(arguments, {"SNAKEMAKE_PROFILE": variable} if variable else {}) == names


@pytest.mark.parametrize(
    ("option", "left", "message"),
    [
        ("config", ["seed"], r"--config .*'scale' is gone; .*`--config scale=paper seed=1`"),
        ("configfile", ["/elsewhere.yaml"], r"--configfile profiles/mine/compute\.yaml yours\.yaml"),
        ("default-resources", ["mem_mb"], r"'nodes' is gone; write it into mine/profile\.yaml"),
        ("set-resources", ["train:nodes"], r"'train:gres' is gone and 1 more"),
        ("resources", [], r"'questions' is gone"),
    ],
)
def test_option_that_replaces_a_profiles_setting_is_refused(tmp_path, monkeypatch, option, left, message):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/profile.yaml").write_text(PROFILE)
    whole = {
        "config": {"scale": "paper"}, "configfile": [str(tmp_path / "profiles/mine/compute.yaml")],
        "resources": ["questions"], "default-resources": ["mem_mb", "nodes", "more"],
        "set-resources": ["train:gres", "train:nodes", "score:nodes"],
    }  # fmt: skip
    require_whole("mine", whole)
    require_whole("not-here", {})
    with pytest.raises(GranvitError, match=message):
        require_whole("mine", {**whole, option: left})


def test_dvc_stores_the_scale_that_is_made(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("scale: mini\n")
    require_one_scale("mini", {"DVC_STAGE": "data"}, tmp_path)
    require_one_scale("paper", {}, tmp_path)
    with pytest.raises(GranvitError, match=r"results/paper, but DVC stores results/mini.*`scale: paper`"):
        require_one_scale("paper", {"DVC_STAGE": "data"}, tmp_path)


def test_slurm_that_would_refuse_is_quoted_with_the_rule(tmp_path, monkeypatch):
    asked = sbatch_arguments(
        {"slurm_partition": "old", "nodes": 2, "gres": "npu:9", "mem_mb": 5, "tmpdir": "/"}
    )
    assert asked == ["--partition=old", "--nodes=2", "--gres=npu:9", "--mem=5"]
    fake = tmp_path / "sbatch"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *old*) echo "sbatch: error: no such partition" >&2; exit 1;; esac\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    require_slurm({"train": ["--nodes=1"]})
    with pytest.raises(GranvitError, match=r"refuse the jobs of train: no such partition; .*--gres=npu:9"):
        require_slurm({"score": ["--nodes=1"], "train": asked})


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"nodes": 2, "gres": "npu:8"}, "asks for nodes 2 in profile.yaml, but compute.train_nodes is 1"),
        (
            {"nodes": 1, "gres": "gpu:a100:4"},
            "asks for gres 4 in profile.yaml, but compute.train_devices is 8",
        ),
        ({"gres": "npu:8"}, None),
        ({"nodes": 1}, None),
    ],
)
def test_training_job_asks_for_what_its_run_is_laid_out_on(resources, says):
    if says:
        with pytest.raises(GranvitError, match=says):
            require_layout("train_stage1", resources, devices=8, nodes=1)
    else:
        require_layout("train_stage1", resources, devices=8, nodes=1)


def test_jobs_that_outlived_their_snakemake_are_named_before_more_are_sent(tmp_path, monkeypatch):
    for name, text in {
        "sbatch": "",
        "squeue": f"7|{tmp_path}\n8|{tmp_path}/other\n12_[3-9]|{tmp_path}",
    }.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{text}"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GranvitError, match=r"queue \(7, 12_\[3-9\]\); .*`scancel 7 12_\[3-9\]`"):
        require_slurm({})
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path.parent)
    require_slurm({})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--config", "seed=1"], "`--config scale=paper seed=1`"),
        (["--configfile", "config/scales/mini.yaml"], "`--configfile profiles/npu/compute.yaml yours.yaml`"),
        (["--set-resources", "finetune_sft:runtime=60"], "'pretrain_projector:gres' is gone"),
    ],
)
def test_command_line_that_drops_a_part_of_the_profile_plans_nothing(clone, options, says):
    output = call(clone, "snakemake", "--profile", "npu", "-n", *options, "--", TARGET, fails=True)
    assert says in output and "Job stats" not in output


@pytest.mark.slow
def test_without_slurm_a_cluster_run_ends_in_seconds_and_says_why(clone, tmp_path):
    folder = shutil.copytree(clone, tmp_path / "clone", symlinks=True)
    for name in ("bash", "sh", "env", "cat", "ls", "which"):
        (tmp_path / name).symlink_to(shutil.which(name))
    path = f"{Path(sys.executable).parent}:{tmp_path}"
    begun = time.monotonic()
    done = subprocess.run(
        [shutil.which("snakemake", path=path), "--profile", "gpu", "--", TARGET],
        cwd=folder, env={**environment(folder), "PATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and time.monotonic() - begun < 60
    assert "SLURM's `sbatch` is not on PATH; run this command on a login node" in done.stderr


@pytest.mark.parametrize("report", [["--report"], ["--report=report.html"], ["--report", "report.html"]])
def test_snakemakes_report_of_nothing_is_refused_and_says_how_to_ask(report):
    with pytest.raises(GranvitError, match="--report: name what has been made.* -- results/table1.csv`"):
        require_report_target(report)
    require_report_target([*report, "--", "results/table1.csv"])


@pytest.mark.slow
def test_snakemake_looks_for_jobs_to_start_only_when_one_has_ended(tmp_path):
    folder = copy_repository(tmp_path / "clone")
    made = ["results/audit.csv", "results/smoke/figures/figure3.png"]
    said = call(folder, "snakemake", "--config", "scale=smoke", "--cores", "1", "--verbose", "--", *made)
    assert "2 of 2 steps (100%) done" in said
    assert said.count("Ready jobs: ") == 2
