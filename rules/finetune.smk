"""Continued pretraining (A.8) and supervised fine-tuning. A step's version is part of its recipe."""


rule continue_pretraining:
    input:
        unpack(start_of_run),
    output:
        manifest="results/{scale}/continued/{recipe}/seed{seed}/manifest.json",
        timing="results/{scale}/continued/{recipe}/seed{seed}/timing.json",
        training_log="results/{scale}/continued/{recipe}/seed{seed}/training_log.csv",
        model=directory("results/{scale}/continued/{recipe}/seed{seed}/model"),
    log:
        "results/{scale}/logs/continue_pretraining/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/continue_pretraining/{recipe}-seed{seed}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.train_threads
    resources:
        accelerators=lambda wildcards: settings(wildcards.scale).compute.train_accelerators,
    priority: 30
    params:
        run=run_settings,
        state=state_folder,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
    message:
        "Continued pretraining of {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train_run.py"


rule finetune_sft:
    input:
        unpack(start_of_run),
    output:
        manifest="results/{scale}/sft/{recipe}/seed{seed}/manifest.json",
        timing="results/{scale}/sft/{recipe}/seed{seed}/timing.json",
        training_log="results/{scale}/sft/{recipe}/seed{seed}/training_log.csv",
        model=directory("results/{scale}/sft/{recipe}/seed{seed}/model"),
    log:
        "results/{scale}/logs/finetune_sft/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/finetune_sft/{recipe}-seed{seed}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.train_threads
    resources:
        accelerators=lambda wildcards: settings(wildcards.scale).compute.train_accelerators,
    priority: 25
    params:
        run=run_settings,
        state=state_folder,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
    message:
        "Fine-tuning of {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train_run.py"
