"""Answers to questions on regions of held-out images, of runs of any stage, and the figures that show them."""


localrules:
    draw_answers,


rule answer_heldout:
    input:
        model=trained_model,
        heldout=fill(rules.draw_mixture.output.mixture, mixture="heldout"),
    output:
        answers="<results>/heldout_answers/<run>.jsonl",
    log:
        "<logs>/<job>.log",
    benchmark:
        "<timings>/<job>.tsv"
    pathvars:
        job="answer_heldout/{recipe}-seed{seed}",
    priority: 25
    threads: lookup(dpath="{scale}/compute/predict_threads", within=SETTINGS)
    resources:
        accelerators=lookup(dpath="{scale}/compute/accelerators", within=SETTINGS),
    params:
        data_types=for_job(data.data_types),
        questions=FIGURES.heldout_answers.questions,
        batch_size=lookup(dpath="{scale}/evaluation/batch_size", within=SETTINGS),
        device=lookup(dpath="{scale}/compute/device", within=SETTINGS),
        version=steps.version("heldout_answers"),
    message:
        "Answering held-out questions with {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/answer_heldout.py"


rule draw_answers:
    input:
        answers=of_shown_runs("answers"),
        heldout=fill(rules.draw_mixture.output.mixture, mixture="heldout"),
    output:
        **figure_files("{figure}"),
    log:
        "<logs>/draw_answers/{figure}.log",
    benchmark:
        "<timings>/draw_answers/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(figures.ANSWER_FIGURES),
    threads: 1
    resources:
        mem_mb=2000,
    params:
        shown=lambda wildcards: getattr(FIGURES, wildcards.figure).model_dump(),
        facts=for_job(figures.figure_facts, sections=FIGURES, seed=SEED),
        version=steps.version("answer_figure"),
    message:
        "Drawing {wildcards.figure} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_answers.py"
