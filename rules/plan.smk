"""What everything would take, before anything of it runs (docs/plan.md)."""


localrules: plan


# Without an output, so that it is made whenever it is asked for: what is done already changes with every job.
rule plan:
    log:
        "results/logs/plan/plan.log",
    benchmark:
        "results/timings/plan/plan.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        scale=SCALE,
        folder=f"results/{SCALE}/tables",
        overrides=OVERRIDES,
    message:
        f"Planning everything at {SCALE} scale"
    script:
        "../workflow_scripts/make_plan.py"
