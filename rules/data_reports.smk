"""What the data are: reports on what was left out, Tables 6 and 7, Figures 2, 6 and 7."""


localrules:
    report_filters,
    report_rejects,
    make_data_table,
    draw_annotation,
    draw_samples,


rule report_filters:
    input:
        ingested=lambda wildcards: shard_files(wildcards.scale, "ingested", "counts.csv"),
        annotated=lambda wildcards: shard_files(wildcards.scale, "annotated", "counts.csv"),
        filtered=lambda wildcards: shard_files(wildcards.scale, "filtered", "counts.csv"),
    output:
        report="results/{scale}/data/filter_report.csv",
    log:
        "results/{scale}/logs/report_filters/filter_report.log",
    benchmark:
        "results/{scale}/timings/report_filters/filter_report.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        version=steps.version("data_report"),
    message:
        "Reporting what each filter removed at {wildcards.scale} scale"
    script:
        "../workflow_scripts/report_filters.py"


rule report_rejects:
    input:
        ingested=lambda wildcards: shard_files(wildcards.scale, "ingested", "rejects.csv"),
        annotated=lambda wildcards: shard_files(wildcards.scale, "annotated", "rejects.csv"),
    output:
        report="results/{scale}/data/rejects.csv",
    log:
        "results/{scale}/logs/report_rejects/rejects.log",
    benchmark:
        "results/{scale}/timings/report_rejects/rejects.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        version=steps.version("data_report"),
    message:
        "Reporting what was rejected at {wildcards.scale} scale"
    script:
        "../workflow_scripts/report_rejects.py"


rule make_data_table:
    input:
        indexes=lambda wildcards: shard_files(wildcards.scale, "packed", "parquet", "pretrain"),
        assignment="config/sources.tsv",
        groups="config/reported/gran29m_groups.csv",
        sources="config/reported/gran29m_sources.csv",
    output:
        csv="results/{scale}/tables/{table}.csv",
        md=report(
            "results/{scale}/tables/{table}.md",
            caption="report/data_table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": "{scale}"},
        ),
    wildcard_constraints:
        table="table6|table7",
    log:
        "results/{scale}/logs/make_data_table/{table}.log",
    benchmark:
        "results/{scale}/timings/make_data_table/{table}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        sources=lambda wildcards: [[s.name, s.data_type, s.group] for s in pretrain_sources(wildcards.scale)],
        version=steps.version("data_table"),
    message:
        "Making {wildcards.table} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_data_table.py"


rule draw_annotation:
    input:
        unpack(figure2_files),
    output:
        figure=report(
            "results/{scale}/figures/figure2.png",
            caption="report/data_figure.rst",
            category="Figures",
            labels={"figure": "figure2", "scale": "{scale}"},
        ),
        pdf="results/{scale}/figures/figure2.pdf",
    log:
        "results/{scale}/logs/draw_annotation/figure2.log",
    benchmark:
        "results/{scale}/timings/draw_annotation/figure2.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        drawn=figure2_settings,
        version=steps.version("data_figure"),
    message:
        "Drawing Figure 2 at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_annotation.py"


rule draw_samples:
    input:
        indexes=lambda wildcards: sampled_shards(wildcards, "parquet"),
        tars=lambda wildcards: sampled_shards(wildcards, "tar"),
    output:
        figure=report(
            "results/{scale}/figures/{figure}.png",
            caption="report/data_figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "scale": "{scale}"},
        ),
        pdf="results/{scale}/figures/{figure}.pdf",
    wildcard_constraints:
        figure="figure6|figure7",
    log:
        "results/{scale}/logs/draw_samples/{figure}.log",
    benchmark:
        "results/{scale}/timings/draw_samples/{figure}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        title=lambda wildcards: SAMPLE_FIGURES[wildcards.figure][1],
        version=steps.version("data_figure"),
    message:
        "Drawing {wildcards.figure} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_samples.py"
