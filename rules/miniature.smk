"""What stands in for the world offline: rendered sources and benchmarks, and the stand-in checkpoints."""


rule render_source:
    output:
        raw=directory(data.RENDERED_SOURCE),
    log:
        "<logs>/render_source/{source}.log",
    benchmark:
        "<timings>/render_source/{source}.tsv"
    wildcard_constraints:
        scale="smoke|mini",
    priority: 50
    threads: 1
    resources:
        mem_mb=2000,
    params:
        images=for_job(data.rendered_images),
        version=steps.version("render"),
    message:
        "Rendering {params.images} images of {wildcards.source}"
    script:
        "../workflow_scripts/render_source.py"


rule render_benchmarks:
    output:
        questions=[f"results/{{scale}}/benchmarks/{tsv}" for tsv in sorted(set(BENCHMARKS.values()))],
    log:
        "<logs>/render_benchmarks/render.log",
    benchmark:
        "<timings>/render_benchmarks/render.tsv"
    wildcard_constraints:
        scale="smoke|mini",
    threads: 1
    resources:
        mem_mb=2000,
    params:
        questions=lookup(dpath="{scale}/data/rendered_questions", within=SETTINGS),
        split="benchmark",
        first=lookup(dpath="{scale}/data/rendered_from", within=SETTINGS),
        version=steps.version("benchmarks"),
    message:
        "Rendering the benchmarks on images of the split {params.split}"
    script:
        "../workflow_scripts/render_benchmarks.py"


rule render_standin_pool:
    output:
        pool="<standins>/pool.npz",
    log:
        "<standins>/logs/render_standin_pool/pool.log",
    benchmark:
        "<standins>/timings/render_standin_pool/pool.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        version=steps.version("standins"),
    message:
        "Rendering the pictures that every stand-in encoder sees"
    script:
        "../workflow_scripts/render_standin_pool.py"


SMALLEST = (
    f"<standins>/llms/{SMALLEST_LLM}"  # the others grow out of it, and SAILViT's stand-in is aligned with it
)


rule build_standin_llm:
    input:
        smallest=branch(lambda wildcards: wildcards.llm != SMALLEST_LLM, then=SMALLEST),
    output:
        model=directory("<standins>/llms/{llm}"),
    log:
        "<standins>/logs/build_standin_llm/{llm}.log",
    benchmark:
        "<standins>/timings/build_standin_llm/{llm}.tsv"
    wildcard_constraints:
        llm=r"[A-Za-z0-9.-]+",
    threads: 1
    resources:
        mem_mb=4000,
    params:
        seed=0,
        version=steps.version("standins"),
    message:
        "Pretraining the stand-in of {wildcards.llm}"
    script:
        "../workflow_scripts/build_standin_llm.py"


rule build_standin_encoder:
    input:
        pool=rules.render_standin_pool.output.pool,
        llm=branch(lambda wildcards: wildcards.encoder == "SAILViT", then=SMALLEST),
    output:
        model=directory("<standins>/encoders/{encoder}"),
    log:
        "<standins>/logs/build_standin_encoder/{encoder}.log",
    benchmark:
        "<standins>/timings/build_standin_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=r"[A-Za-z0-9]+",
    threads: 1
    resources:
        mem_mb=4000,
    params:
        seed=0,
        version=steps.version("standins"),
    message:
        "Pretraining the stand-in of {wildcards.encoder}"
    script:
        "../workflow_scripts/build_standin_encoder.py"
