"""Predictions and scores of the twenty benchmarks. One job a run: one model load, one encoding of each image."""


rule predict_benchmarks:
    input:
        model=trained_model,
        questions=question_files,
    output:
        predictions=benchmark_files("results/{scale}/predictions/{recipe}/seed{seed}", "jsonl"),
    log:
        "results/{scale}/logs/predict_benchmarks/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/predict_benchmarks/{recipe}-seed{seed}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.predict_threads
    resources:
        accelerators=lambda wildcards: settings(wildcards.scale).compute.accelerators,
    priority: 25
    params:
        shuffle_images=False,
        questions=question_settings,
        batch_size=lambda wildcards: settings(wildcards.scale).evaluation.batch_size,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
        version=steps.version("predict"),
    message:
        "Answering the benchmarks with {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/predict_benchmarks.py"


# The chance row: the same model, asked about another question's image.
use rule predict_benchmarks as predict_shuffled with:
    output:
        predictions=benchmark_files("results/{scale}/chance/predictions/{recipe}/seed{seed}", "jsonl"),
    log:
        "results/{scale}/logs/predict_shuffled/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/predict_shuffled/{recipe}-seed{seed}.tsv"
    params:
        shuffle_images=True,
        questions=question_settings,
        batch_size=lambda wildcards: settings(wildcards.scale).evaluation.batch_size,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
        version=steps.version("predict"),
    message:
        "Answering the benchmarks with {wildcards.recipe}, seed {wildcards.seed}, on shuffled images"


rule score_benchmarks:
    input:
        predictions=rules.predict_benchmarks.output.predictions,
        questions=question_files,
    output:
        scores=benchmark_files("results/{scale}/scores/{recipe}/seed{seed}", "json"),
    log:
        "results/{scale}/logs/score_benchmarks/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/score_benchmarks/{recipe}-seed{seed}.tsv"
    threads: 1
    resources:
        mem_mb=8000,
    priority: 25
    params:
        questions=question_settings,
        judge=judge_identity,
        version=steps.version("score"),
    message:
        "Scoring {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/score_benchmarks.py"


use rule score_benchmarks as score_shuffled with:
    input:
        predictions=rules.predict_shuffled.output.predictions,
        questions=question_files,
    output:
        scores=benchmark_files("results/{scale}/chance/scores/{recipe}/seed{seed}", "json"),
    log:
        "results/{scale}/logs/score_shuffled/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/score_shuffled/{recipe}-seed{seed}.tsv"
    message:
        "Scoring {wildcards.recipe}, seed {wildcards.seed}, on shuffled images"
