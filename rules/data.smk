"""Raw sources to training mixtures (Sec. 3): a catalogue a source; ingest, annotate, filter and pack a shard; contamination
and mixtures over all."""


rule catalogue_source:
    input:
        raw=for_job(data.rendered_folder),
    output:
        catalogue="<data>/catalogued/{source}.sqlite",
    log:
        "<logs>/catalogue_source/{source}.log",
    benchmark:
        "<timings>/catalogue_source/{source}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        source=for_job(data.source_row),
        boxes_given=for_job(data.boxes_given),
        version=steps.version("catalogue"),
    message:
        "Cataloguing {wildcards.source}"
    script:
        "../workflow_scripts/catalogue_source.py"


rule ingest_source:
    input:
        raw=for_job(data.rendered_folder),
        catalogue=rules.catalogue_source.output.catalogue,
    output:
        tar="<data>/ingested/{source}/{shard}.tar",
        rejects="<data>/ingested/{source}/{shard}.rejects.csv",
        counts="<data>/ingested/{source}/{shard}.counts.csv",
    log:
        "<logs>/ingest_source/{source}-{shard}.log",
    benchmark:
        "<timings>/ingest_source/{source}-{shard}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        source=for_job(data.source_row),
        shard=lambda wildcards: int(wildcards.shard),
        max_image_pixels=lookup(dpath="{scale}/data/max_image_pixels", within=SETTINGS),
        version=steps.version("ingest"),
    message:
        "Ingesting {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/ingest_source.py"


rule annotate_regions:
    input:
        tar=rules.ingest_source.output.tar,
    output:
        records="<data>/annotated/{source}/{shard}.jsonl",
        rejects="<data>/annotated/{source}/{shard}.rejects.csv",
        counts="<data>/annotated/{source}/{shard}.counts.csv",
    log:
        "<logs>/annotate_regions/{source}-{shard}.log",
    benchmark:
        "<timings>/annotate_regions/{source}-{shard}.tsv"
    wildcard_constraints:
        source=sources_annotated(on_accelerator=False),
    priority: 50
    threads: lookup(dpath="{scale}/compute/annotate_threads", within=SETTINGS)
    resources:
        mem_mb=4000,
        questions=for_job(data.questions_at_once),
    params:
        annotators=for_job(data.annotator_settings),
    message:
        "Annotating {wildcards.source}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/annotate_regions.py"


# Sources whose boxes, or captions, come from a model that runs inside the job.
use rule annotate_regions as annotate_on_accelerator with:
    log:
        "<logs>/annotate_on_accelerator/{source}-{shard}.log",
    benchmark:
        "<timings>/annotate_on_accelerator/{source}-{shard}.tsv"
    wildcard_constraints:
        source=sources_annotated(on_accelerator=True),
    resources:
        mem_mb=32000,
        questions=for_job(data.questions_at_once),
        accelerators=lookup(dpath="{scale}/compute/accelerators", within=SETTINGS),


rule filter_regions:
    input:
        records=unfiltered(data.one_source),
    output:
        records="<data>/filtered/{source}/{shard}.jsonl",
        counts="<data>/filtered/{source}/{shard}.counts.csv",
    log:
        "<logs>/filter_regions/{source}-{shard}.log",
    benchmark:
        "<timings>/filter_regions/{source}-{shard}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        rules=for_job(data.filter_settings),
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
        tar="<data>/packed/{source}/{shard}.tar",
        index="<data>/packed/{source}/{shard}.parquet",
    log:
        "<logs>/pack_shard/{source}-{shard}.log",
    benchmark:
        "<timings>/pack_shard/{source}-{shard}.tsv"
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
        hashes="<data>/benchmark_hashes.parquet",
    log:
        "<logs>/hash_benchmarks/hash.log",
    benchmark:
        "<timings>/hash_benchmarks/hash.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        questions=for_job(runs.question_settings),
        version=steps.version("contamination"),
    message:
        "Hashing the benchmarks' images"
    script:
        "../workflow_scripts/hash_benchmarks.py"


rule find_contamination:
    input:
        indexes=shards(rules.pack_shard.output.index),
        tars=shards(rules.pack_shard.output.tar),
        hashes=rules.hash_benchmarks.output.hashes,
    output:
        matches="<data>/contamination.parquet",
        report="<data>/contamination.csv",
    log:
        "<logs>/find_contamination/find.log",
    benchmark:
        "<timings>/find_contamination/find.tsv"
    threads: 1
    resources:
        mem_mb=16000,
    params:
        max_distance=lookup(dpath="{scale}/data/contamination/max_distance", within=SETTINGS),
        version=steps.version("contamination"),
    message:
        "Looking for benchmark images among the training images"
    script:
        "../workflow_scripts/find_contamination.py"


rule draw_mixture:
    input:
        indexes=shards(rules.pack_shard.output.index, of=data.mixture_sources),
        contamination=branch(
            lookup(dpath="{scale}/data/contamination/drop", within=SETTINGS),
            then=rules.find_contamination.output.matches,
        ),
    output:
        mixture="<data>/mixtures/{mixture}.parquet",
        summary="<data>/mixtures/{mixture}.summary.json",
    log:
        "<logs>/draw_mixture/{mixture}.log",
    benchmark:
        "<timings>/draw_mixture/{mixture}.tsv"
    priority: 40
    threads: 1
    resources:
        mem_mb=16000,
    params:
        draw=for_job(data.mixture_settings),
        version=steps.version("mixture"),
    message:
        "Drawing the mixture {wildcards.mixture}"
    script:
        "../workflow_scripts/draw_mixture.py"
