"""Figures, drawn from tables, recipes and training logs."""


localrules: draw_radar, draw_pipeline, draw_curves, draw_scaling, copy_figure


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
        facts=facts(TABLES["table1"].layout.models.values(), FIGURES.figure1a),
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
        panels=stages_shown,
        facts=facts(FIGURES.figure3.runs, FIGURES.figure3),
        version=steps.version("pipeline"),
    message:
        "Drawing Figure 3 at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_pipeline.py"


rule draw_curves:
    input:
        logs=curve_logs,
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
        facts=facts(FIGURES.figure4a.runs, FIGURES.figure4a),
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
        points=scaled,
        facts=facts(FIGURES.figure5.leaves, FIGURES.figure5),
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
    wildcard_constraints:
        figure=r"figure\d+[a-z]?",
    log:
        "results/logs/copy_figure/{figure}.log",
    benchmark:
        "results/timings/copy_figure/{figure}.tsv"
    message:
        f"Copying {{wildcards.figure}} of the {SCALE} scale"
