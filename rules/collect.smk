"""Targets that people type. `snakemake <target>`; `snakemake` alone makes `all`."""

ABLATIONS = ["table3", "table4", "table5", "table9", "table10"]
DATA_TABLES = ["table6", "table7"]
FIGURES = ["figure1a", "figure2", "figure4a", "figure6", "figure7"]


localrules:
    all,
    data_reports,
    tables,
    ablations,
    figures,
    seeds,
    smoke,
    standins,
    shards,
    data,
    pretrain,
    finetune,
    evaluate,


# What was left out of the data on the way, and which training images look like a benchmark's.
rule data_reports:
    input:
        expand(f"results/{SCALE}/data/{{report}}.csv", report=["filter_report", "rejects", "contamination"]),


# Every table, figure and data report, at the scale of the configuration in force.
rule all:
    default_target: True
    input:
        rules.data_reports.input,
        results_of([*TABLES, *DATA_TABLES]),
        expand("results/{figure}.png", figure=FIGURES),


rule tables:
    input:
        results_of([*TABLES, *DATA_TABLES]),


rule ablations:
    input:
        results_of(ABLATIONS),


rule figures:
    input:
        expand("results/{figure}.png", figure=FIGURES),


# The two rows whose difference is the paper's point, over several seeds.
rule seeds:
    input:
        results_of(["seeds"]),


# Table 1 and its figure from the smallest budgets: every phase and every rule in a few minutes.
rule smoke:
    input:
        multiext("results/smoke/tables/table1", ".csv", ".md"),
        "results/smoke/figures/figure1a.png",


# The stand-in checkpoints once more, beside the shipped ones.
rule standins:
    input:
        expand("results/standins/llms/{llm}", llm=settings("mini").llms),
        expand("results/standins/encoders/{encoder}", encoder=settings("mini").encoders),


# Every source's training-ready shards, and what was left out on the way.
rule shards:
    input:
        shard_files(SCALE, "packed", "tar"),
        f"results/{SCALE}/data/filter_report.csv",
        f"results/{SCALE}/data/rejects.csv",


# The phases of Table 1, one target each, for dvc.yaml.
rule data:
    input:
        mixtures_behind("table1"),


rule pretrain:
    input:
        manifests_behind("table1", ["projector", "stage1", "stage2"]),


rule finetune:
    input:
        manifests_behind("table1", ["continued", "sft"]),


rule evaluate:
    input:
        scores_behind("table1", SCALE),
