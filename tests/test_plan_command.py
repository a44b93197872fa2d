"""`granvit plan` and `snakemake plan`: the plan of Snakemake's own graph, and what wrong numbers say."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from conftest import call, copy_repository, planned

from granvit.cli import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "big"], "--scale: 'big' is not a scale; use one of smoke, mini, small, paper"),
        (["--nodes", "0"], "--nodes is 0; expected 1 or more"),
        (["--devices-per-node", "-1"], "--devices-per-node is -1; expected 0 or more"),
        (["--cores-per-node", "0"], "--cores-per-node is 0; expected 1 or more"),
        (["--run-nodes", "0"], "--run-nodes is 0; expected 1 or more"),
        (["--device-tflops", "0"], "--device-tflops is 0; expected a number above 0"),
        (
            ["--scale", "small", "--device", "T4"],
            "--device: 'T4' is not a device of config/plan.yaml; known: Ascend 910B, RTX 4090, A100, H100",
        ),
        (["--efficiency", "1.5"], "--efficiency is 1.5; expected a share, at most 1"),
        (["--price", "nan"], "--price is nan; expected a number above 0"),
    ],
)
def test_number_out_of_range_is_one_line_before_anything_is_planned(capsys, options, message):
    assert main(["plan", *options]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_outside_the_project_it_says_where_to_go(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan"]) == 1
    assert "run `granvit` in the project's folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "target", "profile"),
    [("small", "results/table1.csv", []),
     ("paper", "results/paper/stage1/stage1-granvit/seed0/manifest.json", ["--profile", "npu"])],
)  # fmt: skip
def test_plan_has_the_jobs_that_snakemake_would_run(clone, scale, target, profile):
    config = ["--config", f"scale={scale}"]
    expected = planned(call(clone, "snakemake", "-n", *profile, *config, "--", target))
    command = ["python", "-m", "granvit.cli", "plan", "--scale", scale, "--target", target, "--json"]
    output = call(clone, *command)
    plan = json.loads(output[output.index("{") :])
    assert plan["stages"][-1]["jobs"] == sum(expected.values()) and plan["stages"][-1]["done"] == 0
    stages = {line["name"]: line["jobs"] for line in plan["stages"]}
    rules = {"stage1": "train_stage1", "sft": "finetune_sft", "projector": "pretrain_projector"}
    assert {name: stages.get(name) for name in rules} == {n: expected.get(rule) for n, rule in rules.items()}
    assert plan["critical_path"]["seconds"] <= plan["makespan"]
    if scale == "small":
        assert plan["machines"] == {"nodes": 1, "cores": 16, "devices": 1}
        assert any("165 TFLOP/s of a device (RTX 4090)" in words for words in plan["assumed"])
        hours = {line["name"]: line["device_hours"] for line in plan["stages"]}
        assert 5 < hours["stage1"] < 10 and 20 < hours["all"] < 40  # docs/small.md
    if scale == "paper":  # eight devices of 313 TFLOP/s at 40 %
        assert plan["machines"] == {"nodes": 16, "cores": 192, "devices": 8}
        assert 90 < next(one for one in plan["stages"] if one["name"] == "stage1")["device_hours"] / 8 < 105


@pytest.mark.slow
def test_target_that_nothing_makes_is_one_line(clone):
    command = ["python", "-m", "granvit.cli", "plan", "--scale", "smoke", "--target", "results/none.csv"]
    output = call(clone, *command, fails=True)
    assert "error: plan: no rule makes 'results/none.csv'" in output and "Traceback" not in output


@pytest.mark.slow
def test_snakemake_plan_writes_tables_and_charts_and_never_counts_as_done(tmp_path):
    folder, scale = copy_repository(tmp_path), ("--config", "scale=smoke")
    output = call(folder, "snakemake", "plan", *scale)
    assert "1 of 1 steps (100%) done" in output
    made = folder / "results/smoke/tables"
    assert all((made / f"plan.{end}").stat().st_size > 500 for end in ("csv", "md", "png", "html"))
    assert "| stage1 |" in (made / "plan.md").read_text()
    lines = pd.read_csv(made / "plan.csv").set_index("name")
    everything = planned(call(folder, "snakemake", "-n", *scale, "--", "all"))
    assert lines.loc["all", "jobs"] == sum(everything.values())
    assert planned(call(folder, "snakemake", "-n", *scale, "--", "plan")) == {"plan": 1}
