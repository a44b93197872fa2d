"""Continued pretraining (A.8) and supervised fine-tuning, as pretrain.smk trains."""


use rule pretrain_projector as continue_pretraining with:
    input:
        unpack(start_of_run("continued")),
    pathvars:
        stage="continued",
        job="continue_pretraining/{recipe}-seed{seed}",
    priority: 30
    message:
        "Continued pretraining of {wildcards.recipe}, seed {wildcards.seed}"


use rule pretrain_projector as finetune_sft with:
    input:
        unpack(start_of_run("sft")),
    pathvars:
        stage="sft",
        job="finetune_sft/{recipe}-seed{seed}",
    priority: 25
    message:
        "Fine-tuning of {wildcards.recipe}, seed {wildcards.seed}"
