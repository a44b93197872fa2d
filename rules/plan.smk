"""What everything would take, before anything of it runs (docs/plan.md)."""


localrules:
    plan,


# Without an output (a benchmark file would be one), so that it is made whenever it is asked for: what is done already
# changes with every job.
rule plan:
    log:
        "results/logs/plan/plan.log",
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
