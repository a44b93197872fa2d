"""Raw sources to training mixtures: ingest, annotate, filter, pack, mixture (Sec. 3). One job a shard."""


rule ingest_source:
    input:
        raw=raw_folder,
    output:
        tar="results/{scale}/data/ingested/{source}/{shard}.tar",
        rejects="results/{scale}/data/ingested/{source}/{shard}.rejects.csv",
    log:
        "results/{scale}/logs/ingest_source/{source}-{shard}.log",
    benchmark:
        "results/{scale}/timings/ingest_source/{source}-{shard}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        source=source_row,
        shard=lambda wildcards: int(wildcards.shard),
        version=steps.version("ingest"),
    message:
        "Ingesting {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/ingest_source.py"


rule annotate_regions:
    input:
        tar=rules.ingest_source.output.tar,
    output:
        records="results/{scale}/data/annotated/{source}/{shard}.jsonl",
    log:
        "results/{scale}/logs/annotate_regions/{source}-{shard}.log",
    benchmark:
        "results/{scale}/timings/annotate_regions/{source}-{shard}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.annotate_threads
    resources:
        mem_mb=4000,
    priority: 50
    params:
        annotator=lambda wildcards: sources(wildcards.scale)[wildcards.source].annotator,
        ocr=lambda wildcards: settings(wildcards.scale).data.ocr.model_dump(),
        version=steps.version("annotate"),
    message:
        "Annotating {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/annotate_regions.py"


rule filter_regions:
    input:
        records=rules.annotate_regions.output.records,
    output:
        records="results/{scale}/data/filtered/{source}/{shard}.jsonl",
        counts="results/{scale}/data/filtered/{source}/{shard}.counts.csv",
    log:
        "results/{scale}/logs/filter_regions/{source}-{shard}.log",
    benchmark:
        "results/{scale}/timings/filter_regions/{source}-{shard}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        rules=filter_rules,
        version=steps.version("filter"),
    message:
        "Filtering {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/filter_regions.py"


rule pack_shard:
    input:
        tar=rules.ingest_source.output.tar,
        records=rules.filter_regions.output.records,
    output:
        tar="results/{scale}/data/packed/{source}/{shard}.tar",
        index="results/{scale}/data/packed/{source}/{shard}.parquet",
    log:
        "results/{scale}/logs/pack_shard/{source}-{shard}.log",
    benchmark:
        "results/{scale}/timings/pack_shard/{source}-{shard}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        version=steps.version("pack"),
    message:
        "Packing {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/pack_shard.py"


rule draw_mixture:
    input:
        indexes=packed_shards,
    output:
        mixture="results/{scale}/data/mixtures/{mixture}.parquet",
        summary="results/{scale}/data/mixtures/{mixture}.summary.json",
    log:
        "results/{scale}/logs/draw_mixture/{mixture}.log",
    benchmark:
        "results/{scale}/timings/draw_mixture/{mixture}.tsv"
    threads: 1
    resources:
        mem_mb=16000,
    priority: 40
    params:
        draw=mixture_settings,
        version=steps.version("mixture"),
    message:
        "Drawing the mixture {wildcards.mixture}"
    script:
        "../workflow_scripts/draw_mixture.py"
