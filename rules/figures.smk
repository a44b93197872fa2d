"""Figures, drawn from tables, recipes and training logs."""


localrules:
    draw_radar,
    draw_pipeline,
    draw_curves,
    draw_scaling,
    copy_figure,


rule draw_radar:
    input:
        cells=fill(rules.compare_table.output.csv, table="table1"),
    output:
        **figure_files("figure1a"),
    log:
        "<logs>/draw_radar/figure1a.log",
    benchmark:
        "<timings>/draw_radar/figure1a.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        facts=for_job(
            figures.shown_runs,
            recipes=TABLES["table1"].layout.models.values(),
            settings={"seed": SEED} | FIGURES.figure1a.model_dump(),
        ),
        table=TABLES["table1"].settings,
        version=steps.version("figure"),
    message:
        "Drawing Figure 1a at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_radar.py"


rule draw_pipeline:
    output:
        **figure_files("figure3"),
    log:
        "<logs>/draw_pipeline/figure3.log",
    benchmark:
        "<timings>/draw_pipeline/figure3.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        panels=for_job(figures.pipeline, recipes=FIGURES.figure3.runs),
        facts=for_job(figures.figure_facts, sections=FIGURES, figure="figure3", seed=SEED),
        version=steps.version("pipeline"),
    message:
        "Drawing Figure 3 at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_pipeline.py"


rule draw_curves:
    input:
        logs=of_shown_runs("training_log", "figure4a", FIGURES.figure4a.seeds),
    output:
        **figure_files("figure4a"),
    log:
        "<logs>/draw_curves/figure4a.log",
    benchmark:
        "<timings>/draw_curves/figure4a.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        facts=for_job(figures.figure_facts, sections=FIGURES, figure="figure4a", seed=SEED),
        version=steps.version("curves"),
    message:
        "Drawing Figure 4a at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_curves.py"


rule draw_scaling:
    input:
        scores=scores_of(FIGURES.figure5.leaves, [SEED]),
        mixtures=scaling_mixtures,
    output:
        **figure_files("figure5"),
    log:
        "<logs>/draw_scaling/figure5.log",
    benchmark:
        "<timings>/draw_scaling/figure5.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        points=for_job(figures.scaling_points, figure5=FIGURES.figure5),
        facts=for_job(figures.figure_facts, sections=FIGURES, figure="figure5", seed=SEED),
        cells=TABLES["table1"].shared.model_dump(include={"benchmarks", "columns"}),
        version=steps.version("scaling"),
    message:
        "Drawing Figure 5 at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_scaling.py"


use rule copy_table as copy_figure with:
    input:
        multiext("<figures>/{figure}", ".png", ".pdf", ".json"),
    output:
        multiext("results/{figure}", ".png", ".pdf", ".json"),
    log:
        "results/logs/copy_figure/{figure}.log",
    benchmark:
        "results/timings/copy_figure/{figure}.tsv"
    wildcard_constraints:
        figure=r"figure\d+[a-z]?",
    message:
        f"Copying {{wildcards.figure}} of the {SCALE} scale"
