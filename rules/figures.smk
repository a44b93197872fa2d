"""Figures, drawn from tables and training logs."""


localrules:
    draw_radar,
    draw_curves,
    copy_figure,


rule draw_radar:
    input:
        table="results/{scale}/tables/table1.csv",
    output:
        figure=report(
            "results/{scale}/figures/figure1a.png",
            caption="report/figure.rst",
            category="Figures",
            labels={"figure": "figure1a", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/logs/draw_radar/figure1a.log",
    benchmark:
        "results/{scale}/timings/draw_radar/figure1a.tsv"
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
        logs=training_logs,
    output:
        figure=report(
            "results/{scale}/figures/figure4a.png",
            caption="report/figure.rst",
            category="Figures",
            labels={"figure": "figure4a", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/logs/draw_curves/figure4a.log",
    benchmark:
        "results/{scale}/timings/draw_curves/figure4a.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        version=steps.version("curves"),
    message:
        "Drawing Figure 4a at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_curves.py"


rule copy_figure:
    input:
        figure=f"results/{SCALE}/figures/{{figure}}.png",
    output:
        figure="results/{figure}.png",
    wildcard_constraints:
        figure=r"figure\d+[a-z]?",
    log:
        "results/logs/copy_figure/{figure}.log",
    benchmark:
        "results/timings/copy_figure/{figure}.tsv"
    threads: 1
    resources:
        mem_mb=100,
    message:
        f"Copying {{wildcards.figure}} of the {SCALE} scale"
    script:
        "../workflow_scripts/copy_files.py"
