"""Raw sources to training mixtures (Sec. 3): a catalogue a source; ingest, annotate, filter and pack a shard; contamination
and mixtures over all."""


rule catalogue_source:
    input:
        raw=raw_folder,
    output:
        catalogue="results/{scale}/data/catalogued/{source}.sqlite",
    log:
        "results/{scale}/logs/catalogue_source/{source}.log",
    benchmark:
        "results/{scale}/timings/catalogue_source/{source}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        source=source_row,
        boxes_given=lambda wildcards: sources(wildcards.scale)[wildcards.source].boxes == "given",
        version=steps.version("catalogue"),
    message:
        "Cataloguing {wildcards.source}"
    script:
        "../workflow_scripts/catalogue_source.py"


rule ingest_source:
    input:
        raw=raw_folder,
        catalogue=rules.catalogue_source.output.catalogue,
    output:
        tar="results/{scale}/data/ingested/{source}/{shard}.tar",
        rejects="results/{scale}/data/ingested/{source}/{shard}.rejects.csv",
        counts="results/{scale}/data/ingested/{source}/{shard}.counts.csv",
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
        max_image_pixels=lambda wildcards: settings(wildcards.scale).data.max_image_pixels,
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
        rejects="results/{scale}/data/annotated/{source}/{shard}.rejects.csv",
        counts="results/{scale}/data/annotated/{source}/{shard}.counts.csv",
    wildcard_constraints:
        source=sources_annotated(on_accelerator=False),
    log:
        "results/{scale}/logs/annotate_regions/{source}-{shard}.log",
    benchmark:
        "results/{scale}/timings/annotate_regions/{source}-{shard}.tsv"
    threads: lambda wildcards: settings(wildcards.scale).compute.annotate_threads
    resources:
        mem_mb=4000,
        questions=questions_at_once,
    priority: 50
    params:
        annotators=annotator_settings,
    message:
        "Annotating {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/annotate_regions.py"


# Sources whose boxes, or captions, come from a model that runs inside the job.
use rule annotate_regions as annotate_on_accelerator with:
    wildcard_constraints:
        source=sources_annotated(on_accelerator=True),
    log:
        "results/{scale}/logs/annotate_on_accelerator/{source}-{shard}.log",
    benchmark:
        "results/{scale}/timings/annotate_on_accelerator/{source}-{shard}.tsv"
    resources:
        mem_mb=32000,
        questions=questions_at_once,
        accelerators=lambda wildcards: settings(wildcards.scale).compute.accelerators,


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


rule hash_benchmarks:
    input:
        questions=question_files,
    output:
        hashes="results/{scale}/data/benchmark_hashes.parquet",
    log:
        "results/{scale}/logs/hash_benchmarks/hash.log",
    benchmark:
        "results/{scale}/timings/hash_benchmarks/hash.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        questions=question_settings,
        version=steps.version("contamination"),
    message:
        "Hashing the benchmarks' images"
    script:
        "../workflow_scripts/hash_benchmarks.py"


rule find_contamination:
    input:
        indexes=lambda wildcards: shard_files(wildcards.scale, "packed", "parquet"),
        tars=lambda wildcards: shard_files(wildcards.scale, "packed", "tar"),
        hashes=rules.hash_benchmarks.output.hashes,
    output:
        matches="results/{scale}/data/contamination.parquet",
        report="results/{scale}/data/contamination.csv",
    log:
        "results/{scale}/logs/find_contamination/find.log",
    benchmark:
        "results/{scale}/timings/find_contamination/find.tsv"
    threads: 1
    resources:
        mem_mb=16000,
    params:
        max_distance=lambda wildcards: settings(wildcards.scale).data.contamination.max_distance,
        version=steps.version("contamination"),
    message:
        "Looking for benchmark images among the training images"
    script:
        "../workflow_scripts/find_contamination.py"


rule draw_mixture:
    input:
        indexes=packed_shards,
        contamination=contamination_to_drop,
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
