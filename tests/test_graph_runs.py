"""The workflow itself at smoke scale: what is made, made again, interrupted, changed, and carried to another
checkout.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import call, commit, environment, planned

pytestmark = pytest.mark.graph

RUN = "workflow_scripts/run_graph.sh"
TABLE = "results/smoke/tables/table1.csv"
# What the smoke run made, by `dvc repro`
ASKED = ("results/table1.csv", "results/figure1a.png", "results/smoke/tables/averages.json")
STAGE1 = "results/smoke/stage1/stage1-granvit/seed0"


def results(folder: Path) -> dict[str, bytes]:
    """Everything that equal runs have to make equal: tables, scores, predictions, manifests and weights."""
    kinds = (
        "tables/*",
        "scores/*/*/*.json",
        "predictions/*/*/*.jsonl",
        "*/*/*/manifest.json",
        "*/*/*/model/*/*.safetensors",
    )
    root = folder / "results/smoke"
    files = {str(path.relative_to(root)): path.read_bytes() for kind in kinds for path in root.glob(kind)}
    assert any(name.endswith(".safetensors") for name in files)
    return files


def assert_equal_results(one: Path, other: Path) -> None:
    first, second = results(one), results(other)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_table1_is_complete(smoke_run):
    lines = (smoke_run / TABLE).read_text().splitlines()
    assert lines[0] == "capability,benchmark,CLIP,SigLIP,SigLIP2,AIMv2,InternViT,SAILViT,GranViT,scale"
    rows = [line.split(",") for line in lines[1:]]
    assert len(rows) == 25 + 4 and all(all(row) and row[-1] == "smoke" for row in rows)
    assert (smoke_run / "results/smoke/figures/figure1a.png").stat().st_size > 0


def test_second_run_does_nothing(smoke_run):
    assert "Nothing to be done" in call(smoke_run, "snakemake", "-n", *ASKED)


# What depends on GranViT's stage 1
DEPENDENTS = [
    "train_stage1", "train_stage2", "finetune_sft", "predict_benchmarks", "predict_shuffled",
    "score_benchmarks", "score_shuffled", "make_table", "compare_table", "draw_radar", "copy_table",
    "copy_figure", "write_averages",
]  # fmt: skip


def halve_distillation(folder: Path) -> None:
    file = folder / "config/recipes.yaml"
    old = "stage1-granvit: {stage: stage1, parent: projector-siglip2}"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, old[:-1] + ", distillation: {weight: 0.5}}"))


def test_changed_distillation_weight_reruns_what_depends_on_it(made):
    halve_distillation(made)
    output = call(made, "snakemake", "-n", *ASKED)
    assert planned(output) == dict.fromkeys(DEPENDENTS, 1)
    assert set(re.findall(r"(?:of|with|Scoring) (\S+), seed", output)) == {
        "stage1-granvit",
        "stage2-granvit",
        "sft-granvit",
    }


def test_changed_data_settings_rerun_what_depends_on_them(made):
    sources = made / "config/sources_mini.tsv"
    sources.write_text(sources.read_text().replace("Invoice Receipt", "Rich Text Images"))  # Table 7's groups
    server = made / "server.yaml"
    server.write_text("data: {max_reject_share: 0.5, captioner: {url: 'http://elsewhere:1/v1', retries: 1}}")
    assert "Nothing to be done" in call(made, "snakemake", "-n", *ASKED, "--configfile", "server.yaml")
    natural = "data={filters: {natural: {min_box_area: 20000}}}"
    plan = planned(call(made, "snakemake", "-n", *ASKED, "--config", natural))
    assert plan["filter_regions"] == 1 and "annotate_regions" not in plan
    assert "projector" not in {*plan}, "no filter touches instruction data"
    lines = made / "lines.yaml"
    lines.write_text("data: {ocr: {min_score: 0.9}}")
    plan = planned(call(made, "snakemake", "-n", *ASKED, "--configfile", "lines.yaml"))
    assert (plan["annotate_regions"], plan["filter_regions"]) == (4, 4) and "ingest_source" not in plan


def test_killed_run_goes_on_to_the_same_bytes(smoke_run, made):
    manifest = made / STAGE1 / "manifest.json"
    gone = ["stage1", "stage2", "sft/sft-granvit", "predictions/sft-granvit", "scores/sft-granvit", "tables"]
    for name in gone:
        shutil.rmtree(made / "results/smoke" / name)
    for name in ASKED:
        (made / name).unlink(missing_ok=True)
    process = subprocess.Popen(
        [RUN, *ASKED], cwd=made, env=environment(made), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    states = made / "state/smoke/stage1/stage1-granvit"
    while not list(states.rglob("fingerprint.json")):
        assert process.poll() is None, "the run ended before stage 1 saved a state"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not manifest.exists(), "stage 1 was over before it could be killed"
    call(made, RUN, *ASKED)
    assert_equal_results(smoke_run, made)


def test_launcher_reruns_nothing_and_trains_on_several_ranks_where_asked(made):
    layout = made / "compute.yaml"
    launcher = "torchrun --standalone --nproc-per-node={devices}"
    layout.write_text(f"compute: {{train_devices: 2, launcher: '{launcher}', sharding: {{stage1: ddp}}}}")
    assert "Nothing to be done" in call(made, "snakemake", "-n", *ASKED, "--configfile", "compute.yaml")
    shutil.rmtree(made / STAGE1)
    call(made, "snakemake", f"{STAGE1}/manifest.json", "--configfile", "compute.yaml")
    manifest = json.loads((made / STAGE1 / "manifest.json").read_text())
    assert (manifest["ranks"], manifest["sharding"]) == (2, "ddp")


def test_dvc_repro_made_what_snakemake_makes(smoke_run):
    phases = ("data", "pretrain", "finetune", "evaluate", "report")
    assert "up to date" in call(smoke_run, "dvc", "status", *phases)
    assert (smoke_run / "results/table1.csv").read_bytes() == (smoke_run / TABLE).read_bytes()


def test_dvc_shows_averages_settings_and_curves(smoke_run, tmp_path):
    shown = call(smoke_run, "dvc", "metrics", "show", "--json")
    (found,) = json.loads(shown[shown.index("{") :])[""]["data"].values()
    averages = [line for line in (smoke_run / TABLE).read_text().splitlines() if ",Average," in line]
    for line in averages:
        capability, _, *cells, _ = line.split(",")
        assert [f"{value:.2f}" for value in found["data"][capability].values()] == cells
    assert len(averages) == 4
    call(smoke_run, "dvc", "plots", "show", "--out", str(tmp_path / "shown"))
    assert "heldout_rouge_l" in (tmp_path / "shown/index.html").read_text()
    call(tmp_path, "git", "clone", "--quiet", str(smoke_run), "other")
    recipes = tmp_path / "other/config/recipes.yaml"
    recipes.write_text(
        recipes.read_text().replace("distillation: {weight: 0.5}", "distillation: {weight: 0.4}")
    )
    assert "stage1-8m-l0.5-a0.9.distillation.weight" in call(tmp_path / "other", "dvc", "params", "diff")


def test_pulled_results_are_up_to_date(smoke_run, tmp_path):
    call(smoke_run, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    call(smoke_run, "dvc", "push")
    commit(smoke_run, "remote")
    call(tmp_path, "git", "clone", "--quiet", str(smoke_run), "other")
    other = tmp_path / "other"
    call(other, "dvc", "pull")
    assert "Nothing to be done" in call(other, "snakemake", "-n", *ASKED)
    assert not {"ingest_source", "pack_shard"} & planned(call(other, "snakemake", "-n", "all")).keys()
    halve_distillation(other)
    assert planned(call(other, "snakemake", "-n", *ASKED)) == dict.fromkeys(DEPENDENTS, 1)
