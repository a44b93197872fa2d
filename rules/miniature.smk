"""What stands in for the world offline: rendered sources and benchmarks, and the stand-in checkpoints."""


rule render_source:
    output:
        raw=directory("results/{scale}/raw/{source}"),
    wildcard_constraints:
        scale="smoke|mini",
    log:
        "results/{scale}/logs/render_source/{source}.log",
    benchmark:
        "results/{scale}/timings/render_source/{source}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    priority: 50
    params:
        images=rendered_images,
        version=steps.version("render"),
    message:
        "Rendering {params.images} images of {wildcards.source}"
    script:
        "../workflow_scripts/render_source.py"


rule render_benchmarks:
    output:
        questions=[f"results/{{scale}}/benchmarks/{tsv}" for tsv in sorted(set(BENCHMARKS.values()))],
    wildcard_constraints:
        scale="smoke|mini",
    log:
        "results/{scale}/logs/render_benchmarks/render.log",
    benchmark:
        "results/{scale}/timings/render_benchmarks/render.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        questions=lambda wildcards: settings(wildcards.scale).data.rendered_questions,
        version=steps.version("benchmarks"),
    message:
        "Rendering the benchmarks, {params.questions} questions each"
    script:
        "../workflow_scripts/render_benchmarks.py"


rule render_standin_pool:
    output:
        pool="results/standins/pool.npy",
    log:
        "results/standins/logs/render_standin_pool/pool.log",
    benchmark:
        "results/standins/timings/render_standin_pool/pool.tsv"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        version=steps.version("standins"),
    message:
        "Rendering the pictures that every stand-in encoder sees"
    script:
        "../workflow_scripts/render_standin_pool.py"


rule build_standin_llm:
    input:
        smallest=smallest_llm,
    output:
        model=directory("results/standins/llms/{llm}"),
    wildcard_constraints:
        llm=r"[A-Za-z0-9.-]+",
    log:
        "results/standins/logs/build_standin_llm/{llm}.log",
    benchmark:
        "results/standins/timings/build_standin_llm/{llm}.tsv"
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
        llm=aligned_llm,
    output:
        model=directory("results/standins/encoders/{encoder}"),
    wildcard_constraints:
        encoder=r"[A-Za-z0-9]+",
    log:
        "results/standins/logs/build_standin_encoder/{encoder}.log",
    benchmark:
        "results/standins/timings/build_standin_encoder/{encoder}.tsv"
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
