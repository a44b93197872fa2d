"""What the miniature must show before a GranViT model is trained on it (config/gates.yaml): nothing here looks at the
benchmarks' own draw."""

GATES = reported(load_gates)()
GATED = [GATES.baseline.recipe], [GATES.baseline.seed]


localrules:
    check_gates,


# Dev's images are a split of their own, which tuning may look at.
use rule render_benchmarks as render_dev with:
    output:
        questions=[f"<results>/dev/benchmarks/{tsv}" for tsv in sorted(set(BENCHMARKS.values()))],
    log:
        "<logs>/render_dev/render.log",
    benchmark:
        "<timings>/render_dev/render.tsv"
    params:
        questions=lookup(dpath="{scale}/data/rendered_questions", within=SETTINGS),
        split="dev",
        first=0,
        version=steps.version("benchmarks"),


use rule predict_benchmarks as predict_dev with:
    input:
        model=trained_model,
        questions=rules.render_dev.output.questions,
    pathvars:
        answers="<results>/dev",
        job="predict_dev/{recipe}-seed{seed}",
    params:
        shuffle_images=False,
        questions=for_job(runs.dev_settings),
    message:
        "Answering the dev questions with {wildcards.recipe}, seed {wildcards.seed}"


use rule predict_dev as predict_dev_shuffled with:
    pathvars:
        answers="<results>/dev/chance",
        job="predict_dev_shuffled/{recipe}-seed{seed}",
    params:
        shuffle_images=True,
    message:
        "Answering the dev questions with {wildcards.recipe}, seed {wildcards.seed}, on shuffled images"


use rule score_benchmarks as score_dev with:
    input:
        predictions=benchmark_files("<answers>/predictions/<run>", "jsonl"),
        questions=rules.render_dev.output.questions,
    pathvars:
        answers="<results>/dev",
        job="score_dev/{recipe}-seed{seed}",
    params:
        questions=for_job(runs.dev_settings),
    message:
        "Scoring {wildcards.recipe}, seed {wildcards.seed}, on dev"


use rule score_dev as score_dev_shuffled with:
    pathvars:
        answers="<results>/dev/chance",
        job="score_dev_shuffled/{recipe}-seed{seed}",
    message:
        "Scoring {wildcards.recipe}, seed {wildcards.seed}, on dev's shuffled images"


rule measure_page_boxes:
    input:
        model=lambda wildcards: run_file(
            "model", AT[wildcards.scale].recipe(GATES.pages.recipe), GATES.pages.seed
        ),
        mixture=fill(rules.draw_mixture.output.mixture, mixture="bbox2caption-all"),
    output:
        losses="<results>/dev/page_boxes.json",
    log:
        "<logs>/measure_page_boxes/page_boxes.log",
    benchmark:
        "<timings>/measure_page_boxes/page_boxes.tsv"
    threads: lookup(dpath="{scale}/compute/predict_threads", within=SETTINGS)
    params:
        rendered=for_job(data.rendered_pages),
        images=GATES.pages.images,
        version=steps.version("page_boxes"),
    message:
        "Comparing PaddleOCR's boxes with those of the ink"
    script:
        "../workflow_scripts/measure_page_boxes.py"


rule check_gates:
    input:
        llms=for_job(runs.standin_manifests, kind="llms"),
        encoders=for_job(runs.standin_manifests, kind="encoders"),
        scores=scores_of(*GATED, rules.score_dev),
        chance=scores_of(*GATED, rules.score_dev_shuffled),
        losses=rules.measure_page_boxes.output.losses,
        gates="config/gates.yaml",
    output:
        csv="<tables>/gates.csv",
        md=in_report("<tables>/gates.md", "gates", "Tables", table="gates"),
    log:
        "<logs>/check_gates/gates.log",
    benchmark:
        "<timings>/check_gates/gates.tsv"
    wildcard_constraints:
        scale="smoke|mini",
    threads: 1
    resources:
        mem_mb=1000,
    params:
        llms=lambda wildcards: [*AT[wildcards.scale].config.llms],
        encoders=lambda wildcards: [*AT[wildcards.scale].config.encoders],
        baseline_llm=lambda wildcards: AT[wildcards.scale].recipe(GATES.baseline.recipe).llm,
        version=steps.version("gates"),
    message:
        "Checking the gates of the miniature at {wildcards.scale} scale"
    script:
        "../workflow_scripts/check_gates.py"
