"""Projector pretraining, stage 1 and stage 2 (Sec. 4). A step's version is part of its recipe."""


rule pretrain_projector:
    input:
        unpack(start_of_run),
    output:
        manifest="results/{scale}/projector/{recipe}/seed{seed}/manifest.json",
        timing="results/{scale}/projector/{recipe}/seed{seed}/timing.json",
        training_log="results/{scale}/projector/{recipe}/seed{seed}/training_log.csv",
        model=directory("results/{scale}/projector/{recipe}/seed{seed}/model"),
    log:
        "results/{scale}/logs/pretrain_projector/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/pretrain_projector/{recipe}-seed{seed}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.train_threads
    resources:
        accelerators=lambda wildcards: settings(wildcards.scale).compute.train_accelerators,
    priority: 20
    params:
        run=run_settings,
        state=state_folder,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
    message:
        "Projector pretraining of {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train_run.py"


rule train_stage1:
    input:
        unpack(start_of_run),
    output:
        manifest="results/{scale}/stage1/{recipe}/seed{seed}/manifest.json",
        timing="results/{scale}/stage1/{recipe}/seed{seed}/timing.json",
        training_log="results/{scale}/stage1/{recipe}/seed{seed}/training_log.csv",
        model=directory("results/{scale}/stage1/{recipe}/seed{seed}/model"),
    log:
        "results/{scale}/logs/train_stage1/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/train_stage1/{recipe}-seed{seed}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.train_threads
    resources:
        accelerators=lambda wildcards: settings(wildcards.scale).compute.train_accelerators,
    priority: 35
    params:
        run=run_settings,
        state=state_folder,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
    message:
        "Stage 1 of {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train_run.py"


rule train_stage2:
    input:
        unpack(start_of_run),
    output:
        manifest="results/{scale}/stage2/{recipe}/seed{seed}/manifest.json",
        timing="results/{scale}/stage2/{recipe}/seed{seed}/timing.json",
        training_log="results/{scale}/stage2/{recipe}/seed{seed}/training_log.csv",
        model=directory("results/{scale}/stage2/{recipe}/seed{seed}/model"),
    log:
        "results/{scale}/logs/train_stage2/{recipe}-seed{seed}.log",
    benchmark:
        "results/{scale}/timings/train_stage2/{recipe}-seed{seed}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.train_threads
    resources:
        accelerators=lambda wildcards: settings(wildcards.scale).compute.train_accelerators,
    priority: 30
    params:
        run=run_settings,
        state=state_folder,
        device=lambda wildcards: settings(wildcards.scale).compute.device,
    message:
        "Stage 2 of {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train_run.py"
