"""What the data are: reports on what was left out and on what the annotators got right, Tables 6 and 7, Figures 2, 6 and 7."""


localrules:
    report_filters,
    report_rejects,
    audit_annotations,
    make_data_table,
    draw_annotation,
    draw_samples,


rule report_filters:
    input:
        ingested=shards(rules.ingest_source.output.counts),
        annotated=shards(rules.annotate_regions.output.counts, of=data.annotated_sources),
        filtered=shards(rules.filter_regions.output.counts),
    output:
        report="<data>/filter_report.csv",
    log:
        "<logs>/report_filters/filter_report.log",
    benchmark:
        "<timings>/report_filters/filter_report.tsv"
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
        ingested=shards(rules.ingest_source.output.rejects),
        annotated=shards(rules.annotate_regions.output.rejects, of=data.annotated_sources),
    output:
        report="<data>/rejects.csv",
    log:
        "<logs>/report_rejects/rejects.log",
    benchmark:
        "<timings>/report_rejects/rejects.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        version=steps.version("data_report"),
    message:
        "Reporting what was rejected at {wildcards.scale} scale"
    script:
        "../workflow_scripts/report_rejects.py"


rule audit_annotations:
    input:
        records=unfiltered(data.audited_sources),
    output:
        report="<data>/annotation_audit.csv",
    log:
        "<logs>/audit_annotations/annotation_audit.log",
    benchmark:
        "<timings>/audit_annotations/annotation_audit.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        sources=for_job(data.audit_settings),
        version=steps.version("annotation_audit"),
    message:
        "Comparing the annotations with the truth, where it is known, at {wildcards.scale} scale"
    script:
        "../workflow_scripts/audit_annotations.py"


rule make_data_table:
    input:
        indexes=shards(rules.pack_shard.output.index, of=data.pretraining_sources),
        assignment="config/sources.tsv",
        groups="config/reported/gran29m_groups.csv",
        sources="config/reported/gran29m_sources.csv",
    output:
        csv="<tables>/{table}.csv",
        md=in_report("<tables>/{table}.md", "data_table", "Tables", table="{table}"),
    log:
        "<logs>/make_data_table/{table}.log",
    benchmark:
        "<timings>/make_data_table/{table}.tsv"
    wildcard_constraints:
        table="|".join(DATA_TABLES),
    threads: 1
    resources:
        mem_mb=2000,
    params:
        sources=for_job(data.table_sources),
        version=steps.version("data_table"),
    message:
        "Making {wildcards.table} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_data_table.py"


rule draw_annotation:
    input:
        annotated=unfiltered(data.figure2_sources),
        indexes=shards(rules.pack_shard.output.index, of=data.figure2_sources),
        tars=shards(rules.pack_shard.output.tar, of=data.figure2_sources),
    output:
        **figure_files("figure2"),
    log:
        "<logs>/draw_annotation/figure2.log",
    benchmark:
        "<timings>/draw_annotation/figure2.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        drawn=for_job(data.figure2_settings),
        version=steps.version("data_figure"),
    message:
        "Drawing Figure 2 at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_annotation.py"


rule draw_samples:
    input:
        indexes=shards(rules.pack_shard.output.index, of=data.sampled_sources),
        tars=shards(rules.pack_shard.output.tar, of=data.sampled_sources),
    output:
        **figure_files("{figure}"),
    log:
        "<logs>/draw_samples/{figure}.log",
    benchmark:
        "<timings>/draw_samples/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(data.SAMPLE_FIGURES),
    threads: 1
    resources:
        mem_mb=2000,
    params:
        title=for_job(data.sample_title),
        version=steps.version("data_figure"),
    message:
        "Drawing {wildcards.figure} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/draw_samples.py"
