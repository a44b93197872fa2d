"""Targets that people type. `snakemake <target>`; `snakemake` alone makes `all`."""

ABLATIONS = ["table3", "table4", "table5", "table9", "table10"]
# Every run behind Table 1
RUNS = reported(runs.with_ancestors)(AT[SCALE], required_leaves(TABLES["table1"]))
MANIFESTS = [(run.stage, fill(run_file("manifest", run), scale=SCALE)) for run in RUNS]


localrules:
    data_reports,
    all,
    tables,
    ablations,
    beyond,
    figures,
    seeds,
    claims,
    report,
    smoke,
    gates,
    standins,
    shards,
    data,
    pretrain,
    finetune,
    evaluate,


# What was left out of the data on the way, which training images look like a benchmark's, what the annotators got right.
rule data_reports:
    input:
        fill(rules.report_filters.output.report, scale=SCALE),
        fill(rules.report_rejects.output.report, scale=SCALE),
        fill(rules.find_contamination.output.report, scale=SCALE),
        fill(rules.audit_annotations.output.report, scale=SCALE),


# Every table, figure and data report, at the scale of the configuration in force.
rule all:
    default_target: True
    input:
        rules.data_reports.input,
        results_of([*PAPER_TABLES, *DATA_TABLES]),
        rules.audit_paper.output,
        rules.copy_comparison.output,
        expand("results/{figure}.png", figure=DRAWN),
        rules.copy_locality.output,


rule tables:
    input:
        results_of([*PAPER_TABLES, *DATA_TABLES]),
        rules.copy_locality.output,
        rules.copy_comparison.output,


rule ablations:
    input:
        results_of(ABLATIONS),


# Controls and other encoders, and what every row of Table 1 and of them cost: tables that the paper does not have.
rule beyond:
    input:
        results_of(
            [name for name in OFFERED if name in BEYOND_TABLES] + [f"{table}.cost" for table in OFFERED]
        ),


rule figures:
    input:
        expand("results/{figure}.png", figure=DRAWN),


# The two rows whose difference is the paper's point, over several seeds.
rule seeds:
    input:
        results_of(["seeds"]),


# The paper's claims, each with an interval and a verdict.
rule claims:
    input:
        rules.copy_claims.output,


# All of that as pages, from each number down to the answers behind it.
rule report:
    input:
        rules.copy_report.output,


# The whole paper from the smallest budgets: every rule, every table and figure, and the report of them, in some minutes.
rule smoke:
    input:
        expand("<tables>/{table}.{suffix}", table=[*PAPER_TABLES, *DATA_TABLES], suffix=["csv", "md"]),
        multiext("<tables>/", "comparison.csv", "attention_locality.csv"),
        expand("<figures>/{figure}.png", figure=DRAWN),
        rules.audit_paper.output,
        multiext("<data>/", "filter_report.csv", "rejects.csv", "contamination.csv", "annotation_audit.csv"),
        "<results>/report",
    pathvars:
        results="results/smoke",


# Whether the miniature is fit to train on: config/gates.yaml.
rule gates:
    input:
        fill(rules.check_gates.output.md, scale=SCALE),


# The stand-in checkpoints once more, beside the shipped ones.
rule standins:
    input:
        expand("<standins>/llms/{llm}", llm=AT["mini"].config.llms),
        expand("<standins>/encoders/{encoder}", encoder=AT["mini"].config.encoders),


# Every source's training-ready shards, and what was left out on the way.
rule shards:
    input:
        expand(of_shards(rules.pack_shard.output.tar, data.all_sources(AT[SCALE])), scale=SCALE),
        rules.data_reports.input[:2],


# The phases of Table 1, one target each, for dvc.yaml. All that reads folders which DVC does not hold is of the first one:
# after a pull, another target would build the data again for it.
rule data:
    input:
        rules.data_reports.input,
        fill(rules.draw_annotation.output.figure, scale=SCALE),
        [
            fill(rules.draw_mixture.output.mixture, mixture=name, scale=SCALE)
            for name in runs.mixtures_of(RUNS)
        ],


rule pretrain:
    input:
        [file for stage, file in MANIFESTS if stage in ("projector", "stage1", "stage2")],


rule finetune:
    input:
        [file for stage, file in MANIFESTS if stage in ("continued", "sft")],


rule evaluate:
    input:
        expand(scores_behind(TABLES["table1"]), scale=SCALE),
