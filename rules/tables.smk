"""Tables: one rule makes them all from config/tables.yaml."""


localrules:
    make_table,
    compare_seeds,
    copy_table,


rule make_table:
    input:
        unpack(table_inputs),
        reported="config/reported/results.csv",
    output:
        csv="results/{scale}/tables/{table}.csv",
        md=report(
            "results/{scale}/tables/{table}.md",
            caption="report/table.rst",
            category="Tables",
            labels={"table": "{table}", "scale": "{scale}"},
        ),
    wildcard_constraints:
        table="|".join(TABLES),
    log:
        "results/{scale}/logs/make_table/{table}.log",
    benchmark:
        "results/{scale}/timings/make_table/{table}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        table=table_settings,
        seed=SEED,
        version=steps.version("table"),
    message:
        "Making {wildcards.table} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_table.py"


rule compare_seeds:
    input:
        scores=lambda wildcards: scores_of(COMPARED, settings(SCALE).comparison_seeds, wildcards.scale),
    output:
        csv="results/{scale}/tables/seeds.csv",
        md=report(
            "results/{scale}/tables/seeds.md",
            caption="report/seeds.rst",
            category="Tables",
            labels={"table": "seeds", "scale": "{scale}"},
        ),
    log:
        "results/{scale}/logs/compare_seeds/seeds.log",
    benchmark:
        "results/{scale}/timings/compare_seeds/seeds.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        recipes=COMPARED,
        seeds=settings(SCALE).comparison_seeds,
        version=steps.version("table"),
    message:
        "Comparing seeds {params.seeds} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/compare_seeds.py"


rule copy_table:
    input:
        csv=f"results/{SCALE}/tables/{{table}}.csv",
        md=f"results/{SCALE}/tables/{{table}}.md",
    output:
        csv="results/{table}.csv",
        md="results/{table}.md",
    wildcard_constraints:
        table=r"table\d+|seeds",
    log:
        "results/logs/copy_table/{table}.log",
    benchmark:
        "results/timings/copy_table/{table}.tsv"
    threads: 1
    resources:
        mem_mb=100,
    message:
        f"Copying {{wildcards.table}} of the {SCALE} scale"
    script:
        "../workflow_scripts/copy_files.py"
