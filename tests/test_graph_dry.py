"""What a fresh clone can be asked for, and what it says to a mistake, without running anything."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import call, copy_repository, planned

from granvit.graph.scale import Scale

pytestmark = pytest.mark.slow  # and not `graph`: a dry-run takes one core, so two go side by side


@pytest.mark.parametrize(
    ("target", "jobs"),
    [
        (["results/table1.csv"], {"train_stage1": 1, "train_stage2": 1, "finetune_sft": 7, "make_table": 1}),
        (["ablations"], {"make_table": 5, "copy_table": 5}),
        (["all"], {"make_table": 9, "make_data_table": 2, "measure_locality": 4, "find_contamination": 1,
                   "compare_table": 9, "copy_comparison": 1, "audit_paper": 1, "audit_annotations": 1}),
        (["figures"], {"draw_radar": 1, "draw_curves": 1, "draw_annotation": 1, "draw_samples": 2,
                       "draw_pipeline": 1, "draw_scaling": 1, "map_queries": 3, "draw_maps": 3,
                       "draw_answers": 5, "answer_heldout": 5}),
        (["results/figure3.png"], {"draw_pipeline": 1, "copy_figure": 1, "train_stage1": None}),
        (["results/figure5.png"], {"train_stage1": 3, "train_stage2": 6, "finetune_sft": 6}),
        (["results/comparison.csv"], {"compare_table": 9, "make_data_table": 2, "make_table": None}),
        (["shards"], {"catalogue_source": 8, "pack_shard": 8, "report_filters": 1, "report_rejects": 1}),
        (["seeds"], {"train_stage1": 3, "finetune_sft": 6, "predict_benchmarks": 6}),
        (["standins"], {"build_standin_llm": 4, "build_standin_encoder": 6}),
        (["smoke"], {"finetune_sft": 54, "make_table": 9, "draw_answers": 5, "make_report": 1}),
        (["beyond", "--config", "scale=smoke"], {"train_stage1": 10, "train_stage2": 9, "finetune_sft": 17,
                                                 "make_cost": 2, "make_table": 1, "copy_table": 3}),
        (["results/table1.csv", "--config", "scale=small"], {"train_stage1": 1, "finetune_sft": 7,
                                                             "catalogue_source": 10, "render_source": None}),
        (["beyond", "--config", "scale=small"], {"finetune_sft": 19, "make_cost": 3, "make_table": 2,
                                                 "copy_table": 5}),
        (["results/table1.cost.csv"], {"train_stage1": 1, "finetune_sft": 7, "make_cost": 1,
                                        "make_table": None, "predict_benchmarks": None}),
        (["report"], {"finetune_sft": 54, "make_table": 9, "make_report": 1, "copy_report": 1}),
        (["report", "--config", "report={tables: [claims], figures: []}", "claims=[gain-ocr]"],
         {"finetune_sft": 6, "make_claims": 1, "make_report": 1, "make_table": None}),
    ],
)  # fmt: skip
def test_fresh_clone_plans_every_target(clone, target, jobs):
    plan = planned(call(clone, "snakemake", "-n", *target))
    assert {rule: plan.get(rule) for rule in jobs} == jobs


@pytest.mark.parametrize("choice", [["claims", "--config", "scale=smoke"], ["--profile", "npu"]])
def test_everything_is_planned_at_the_other_scales_too(clone, choice):
    output = call(clone, "snakemake", "-n", "all", *choice)
    plan = planned(output)
    assert (plan["make_table"], plan["draw_pipeline"], plan["draw_scaling"]) == (9, 1, 1)
    if "claims" in choice:  # 54 runs, 9 controls; 34 and the controls at two more seeds
        assert (plan["make_claims"], plan["measure_locality"], plan["score_benchmarks"]) == (1, 12, 149)
    if "npu" in choice:
        assert plan["finetune_sft"] == 54 and "render_source" not in plan
        assert "results/paper/stage1/stage1-granvit" in output and "results/mini" not in output


def test_a_changed_setting_of_a_figure_makes_that_figure_again_and_nothing_else(tmp_path):
    folder = copy_repository(tmp_path)
    call(folder, "snakemake", "results/figure3.png")
    assert "Nothing to be done" in call(folder, "snakemake", "-n", "results/figure3.png")
    file = folder / "config/figures.yaml"
    text = file.read_text()
    file.write_text(text.replace("span: [0, 100]", "span: [10, 90]"))
    assert "Nothing to be done" in call(folder, "snakemake", "-n", "results/figure3.png")
    file.write_text(text.replace("stage2-granvit, sft-granvit]\n", "stage2-granvit]\n", 1))
    plan = planned(call(folder, "snakemake", "-n", "results/figure3.png"))
    assert plan == {"draw_pipeline": 1, "copy_figure": 1}


def test_scale_of_one_gpu_is_planned_without_data_on_a_cluster_too(clone):
    asked = ("--config", "scale=small", "-n", "results/table1.csv")
    plain, cluster = (planned(call(clone, "snakemake", *more, *asked)) for more in ((), ("--profile", "gpu")))
    assert plain == cluster and plain["pretrain_projector"] == 6
    output = call(clone, "snakemake", *asked)
    assert "note: 11 of 11 sources of the scale small have no data here: VisualGenome-Regions (" in output
    assert "results/small/sft/sft-granvit" in output and "results/paper" not in output


def test_table_of_encoders_that_the_scale_lacks_says_which_and_where(clone):
    output = call(clone, "snakemake", "-n", "results/encoders.csv", fails=True)
    assert "no RICE at the scale mini, as `standins` of config/encoders.yaml" in output
    plan = planned(call(clone, "snakemake", "-n", "results/encoders.csv", "--config", "scale=paper"))
    assert plan["finetune_sft"] == 9 and plan["train_stage1"] == 1


def test_the_other_cluster_profile_plans_the_paper_without_data(clone):
    run = "results/paper/sft/sft-siglip2/seed0/manifest.json"
    output = call(clone, "snakemake", "--profile", "gpu", "-n", run)
    plan = planned(output)
    assert plan["finetune_sft"] == 1 and "render_source" not in plan
    assert "results/mini" not in output


def test_source_may_have_the_name_of_another_scales_that_is_annotated_otherwise(tmp_path):
    folder = copy_repository(tmp_path)
    file = folder / "config/sources_mini.tsv"
    row = "FLICKR30k ocr Mine pretrain folder data/mine ocr none ocr 1".replace(" ", "\t")
    file.write_text(f"{file.read_text().rstrip()}\n{row}\n")
    plan = planned(call(folder, "snakemake", "-n", "shards"))
    assert plan["annotate_regions"] == 5 and "annotate_on_accelerator" not in plan
    paper = planned(call(folder, "snakemake", "-n", "shards", "--config", "scale=paper"))
    assert paper["annotate_on_accelerator"] == 401  # LAION's 400 shards and FLICKR30k's one


def test_nested_settings_on_the_command_line_are_read_as_in_a_file(clone):
    data = "data={ocr: {min_score: 0.9, detection_side: null}, contamination: {drop: true}, budgets: {8M: 9}}"
    assert planned(call(clone, "snakemake", "-n", "shards", "--config", data))["annotate_regions"] == 4
    output = call(clone, "snakemake", "-n", "shards", "--config", "data={ocr: {min_score: much}}", fails=True)
    assert "command line: data.ocr.min_score: 'much' should be a number" in output


def test_every_rule_has_its_log_and_environment(clone):
    assert "good condition" in call(clone, "snakemake", "--lint")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("config/scales/mini.yaml", "batch_size: 8", "batchsize: 8", ["batchsize", "batch_size"]),
        ("config/recipes.yaml", "parent: stage2-granvit}", "parent: stage3}", ["sft-granvit", "stage3"]),
        ("config/figures.yaml", "own: []", "own: [{image: x.jpg, point: [0, 1]}]", ["own.0.image", "x.jpg"]),
    ],
)  # fmt: skip
def test_mistake_is_one_message_before_the_first_job(tmp_path, file, old, new, words):
    folder = copy_repository(tmp_path)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    output = call(folder, "snakemake", "-n", "results/table1.csv", fails=True)
    assert "Traceback" not in output
    assert all(word in output for word in [file, *words]), output


def test_missing_model_folder_is_reported_by_the_job(tmp_path):
    folder = copy_repository(tmp_path)
    file = folder / "config/encoders.yaml"
    file.write_text(file.read_text().replace("standins/encoders/CLIP", "standins/encoders/KLIP"))
    output = call(folder, "snakemake", "-n", "results/table1.csv", fails=True)
    assert "standins/encoders/KLIP" in output and "Traceback" not in output


def test_run_of_another_recipe_that_snakemake_did_not_see_end_is_not_taken_for_the_new_one(tmp_path):
    folder = copy_repository(tmp_path)
    run = folder / "results/smoke/projector/projector-siglip2/seed0"
    (run / "model").mkdir(parents=True)
    for name in ("timing.json", "training_log.csv"):
        (run / name).write_text("")
    (run / "manifest.json").write_text('{"recipe_hash": "0123456789"}')
    asked = str((run / "manifest.json").relative_to(folder))
    output = call(folder, "snakemake", "-n", asked, fails=True)
    assert "recipe_hash is 01234567, but 'projector-siglip2' is now" in output
    assert f"remove {run.relative_to(folder)} to train it again" in output
    own = Scale("smoke").recipe("projector-siglip2").hash
    (run / "manifest.json").write_text(f'{{"recipe_hash": "{own}"}}')
    assert "recipe_hash" not in call(folder, "snakemake", "-n", asked)


def test_run_asked_for_under_another_stage_is_sent_to_its_own(clone):
    asked = "results/smoke/projector/sft-clip/seed0/manifest.json"
    output = call(clone, "snakemake", "-n", asked, fails=True)
    assert "'sft-clip' is a recipe of sft; ask for results/smoke/sft/sft-clip/seed0/manifest.json" in output


def test_checkout_in_a_folder_with_a_space_and_other_letters_is_like_any_other(tmp_path):
    folder = copy_repository(tmp_path / "größe & 二 folders")
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    call(folder, str(folder / ".venv/bin/python"), "-m", "snakemake", "results/figure3.png")
    assert (folder / "results/figure3.png").stat().st_size > 0
    elsewhere = tmp_path / "an environment"
    elsewhere.symlink_to(Path(sys.executable).parent.parent)
    output = call(folder, str(elsewhere / "bin/python"), "-m", "snakemake", "-n", "all", fails=True)
    assert "environment: Snakemake cannot start" in output
    assert "make the environment in the checkout" in output


def test_a_plan_says_which_data_are_absent_and_a_run_stops_for_them_before_its_first_job(clone):
    target = "results/paper/data/mixtures/projector.parquet"
    plan = call(clone, "snakemake", "--config", "scale=paper", "-n", "--", target)
    assert re.search(
        r"note: 41 of 41 sources of the scale paper have no data here: CC3M \(data/CC3M\), ", plan
    )
    said = call(clone, "snakemake", "--config", "scale=paper", "--cores", "1", "--", target, fails=True)
    assert "source 'BLIP-LAION-CC-SBU-558K': its data are absent" in said and "Fetch them with `hf " in said
    assert "CC3M" not in said.rpartition("Job stats")[2] and "0 of" not in said and "Execute" not in said
