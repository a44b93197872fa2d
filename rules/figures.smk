"""Figures, drawn from tables and training logs."""


localrules: draw_radar, draw_curves, copy_figure


rule draw_radar:
    input:
        table=fill(rules.make_table.output.csv, table="table1"),
    output:
        figure=in_report("<figures>/figure1a.png", "figure", "Figures", figure="figure1a"),
    log:
        "<logs>/draw_radar/figure1a.log",
    benchmark:
        "<timings>/draw_radar/figure1a.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        version=steps.version("figure"),
    message:
        "Drawing Figure 1a at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_radar.py"


rule draw_curves:
    input:
        logs=curve_logs,
    output:
        figure=in_report("<figures>/figure4a.png", "figure", "Figures", figure="figure4a"),
    log:
        "<logs>/draw_curves/figure4a.log",
    benchmark:
        "<timings>/draw_curves/figure4a.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        version=steps.version("curves"),
    message:
        "Drawing Figure 4a at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_curves.py"


use rule copy_table as copy_figure with:
    input:
        figure="<figures>/{figure}.png",
    output:
        figure="results/{figure}.png",
    wildcard_constraints:
        figure=r"figure\d+[a-z]?",
    log:
        "results/logs/copy_figure/{figure}.log",
    benchmark:
        "results/timings/copy_figure/{figure}.tsv"
    message:
        f"Copying {{wildcards.figure}} of the {SCALE} scale"
