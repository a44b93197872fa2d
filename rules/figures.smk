"""Figures, drawn from the tables."""


localrules:
    draw_radar,
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
