"""Projector pretraining, stage 1 and stage 2 (Sec. 4). A step's version is part of its recipe.

All stages train by one script; what differs is in the recipe. The other rules change the first one's names.
"""


rule pretrain_projector:
    input:
        unpack(start_of_run("projector")),
    output:
        manifest="<results>/<stage>/<run>/manifest.json",
        timing="<results>/<stage>/<run>/timing.json",
        training_log="<results>/<stage>/<run>/training_log.csv",
        model=directory("<results>/<stage>/<run>/model"),
    log:
        "<logs>/<job>.log",
    benchmark:
        "<timings>/<job>.tsv"
    pathvars:
        stage="projector",
        job="pretrain_projector/{recipe}-seed{seed}",
    priority: 20
    threads: lookup(dpath="{scale}/compute/train_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/train_accelerators", within=SETTINGS),
    params:
        run=for_job(runs.run_settings),
        state=for_job(runs.state_folder),
        device=lookup(dpath="{scale}/compute/device", within=SETTINGS),
    message:
        "Projector pretraining of {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train_run.py"


use rule pretrain_projector as train_stage1 with:
    input:
        unpack(start_of_run("stage1")),
    pathvars:
        stage="stage1",
        job="train_stage1/{recipe}-seed{seed}",
    priority: 35
    message:
        "Stage 1 of {wildcards.recipe}, seed {wildcards.seed}"


use rule pretrain_projector as train_stage2 with:
    input:
        unpack(start_of_run("stage2")),
    pathvars:
        stage="stage2",
        job="train_stage2/{recipe}-seed{seed}",
    priority: 30
    message:
        "Stage 2 of {wildcards.recipe}, seed {wildcards.seed}"
