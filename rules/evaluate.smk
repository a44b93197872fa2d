"""Predictions and scores of the twenty benchmarks. One job a run: one model load, one encoding of each image."""


rule predict_benchmarks:
    input:
        model=trained_model,
        questions=question_files,
    output:
        predictions=benchmark_files("<answers>/predictions/<run>", "jsonl"),
    log:
        "<logs>/<job>.log",
    benchmark:
        "<timings>/<job>.tsv"
    pathvars:
        answers="<results>",
        job="predict_benchmarks/{recipe}-seed{seed}",
    priority: 25
    threads: lookup(dpath="{scale}/compute/predict_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/accelerators", within=SETTINGS),
    params:
        shuffle_images=False,
        questions=for_job(runs.asked_settings),
        batch_size=lookup(dpath="{scale}/evaluation/batch_size", within=SETTINGS),
        device=lookup(dpath="{scale}/compute/device", within=SETTINGS),
        version=steps.version("predict"),
    message:
        "Answering the benchmarks with {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/predict_benchmarks.py"


# The chance row: the same model, asked about another question's image.
use rule predict_benchmarks as predict_shuffled with:
    pathvars:
        answers="<results>/chance",
        job="predict_shuffled/{recipe}-seed{seed}",
    params:
        shuffle_images=True,
    message:
        "Answering the benchmarks with {wildcards.recipe}, seed {wildcards.seed}, on shuffled images"


rule score_benchmarks:
    input:
        predictions=benchmark_files("<answers>/predictions/<run>", "jsonl"),
        questions=question_files,
    output:
        scores=benchmark_files("<answers>/scores/<run>", "json"),
        verdicts=benchmark_files("<answers>/verdicts/<run>", "jsonl"),
    log:
        "<logs>/<job>.log",
    benchmark:
        "<timings>/<job>.tsv"
    pathvars:
        answers="<results>",
        job="score_benchmarks/{recipe}-seed{seed}",
    priority: 25
    threads: 1
    resources:
        mem_mb=8000,
    params:
        questions=for_job(runs.scored_settings),
        judge=for_job(runs.judge_settings),
        version=steps.version("score"),
    message:
        "Scoring {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/score_benchmarks.py"


use rule score_benchmarks as score_shuffled with:
    pathvars:
        answers="<results>/chance",
        job="score_shuffled/{recipe}-seed{seed}",
    message:
        "Scoring {wildcards.recipe}, seed {wildcards.seed}, on shuffled images"
