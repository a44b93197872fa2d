"""Tables: one rule makes them all from config/tables.yaml."""


localrules:
    make_table,
    write_averages,
    compare_seeds,
    compare_table,
    join_comparisons,
    audit_paper,
    copy_table,
    copy_comparison,


rule make_table:
    input:
        unpack(table_inputs),
        reported="config/reported/results.csv",
    output:
        csv="<tables>/{table}.csv",
        md=in_report("<tables>/{table}.md", "table", "Tables", table="{table}"),
    log:
        "<logs>/make_table/{table}.log",
    benchmark:
        "<timings>/make_table/{table}.tsv"
    wildcard_constraints:
        table="|".join(TABLES),
    threads: 1
    resources:
        mem_mb=1000,
    params:
        table=lambda wildcards: TABLES[wildcards.table].settings,
        seed=SEED,
        version=steps.version("table"),
    message:
        "Making {wildcards.table} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_table.py"


rule compare_seeds:
    input:
        scores=scores_of(COMPARED, AT[SCALE].config.comparison_seeds),
    output:
        csv="<tables>/seeds.csv",
        md=in_report("<tables>/seeds.md", "seeds", "Tables", table="seeds"),
    log:
        "<logs>/compare_seeds/seeds.log",
    benchmark:
        "<timings>/compare_seeds/seeds.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        recipes=COMPARED,
        seeds=AT[SCALE].config.comparison_seeds,
        version=steps.version("table"),
    message:
        "Comparing seeds {params.seeds} at {wildcards.scale} scale"
    script:
        "../workflow_scripts/compare_seeds.py"


# What `dvc metrics` follows from commit to commit.
rule write_averages:
    input:
        table=fill(rules.make_table.output.csv, table="table1"),
    output:
        averages="<tables>/averages.json",
    log:
        "<logs>/write_averages/averages.log",
    benchmark:
        "<timings>/write_averages/averages.tsv"
    threads: 1
    resources:
        mem_mb=500,
    params:
        version=steps.version("table"),
    message:
        "Writing the averages of Table 1 at {wildcards.scale} scale"
    script:
        "../workflow_scripts/write_averages.py"


rule compare_table:
    input:
        unpack(table_inputs),
        reported="config/reported/results.csv",
    output:
        csv="<tables>/{table}.cells.csv",
    log:
        "<logs>/compare_table/{table}.log",
    benchmark:
        "<timings>/compare_table/{table}.tsv"
    wildcard_constraints:
        table="|".join(TABLES),
    threads: 1
    resources:
        mem_mb=1000,
    params:
        table=lambda wildcards: TABLES[wildcards.table].settings,
        seed=SEED,
        version=steps.version("table"),
    message:
        "Comparing {wildcards.table} at {wildcards.scale} scale with the paper's"
    script:
        "../workflow_scripts/compare_table.py"


# What the rows of a table took to train: tokens, FLOPs, time.
rule make_cost:
    input:
        unpack(files_asked(runs.cost_files, tables=TABLES, seed=SEED)),
    output:
        csv="<tables>/{table}.cost.csv",
        md=in_report("<tables>/{table}.cost.md", "cost", "Tables", table="{table}, cost"),
    log:
        "<logs>/make_cost/{table}.log",
    benchmark:
        "<timings>/make_cost/{table}.tsv"
    wildcard_constraints:
        table="|".join(COST_TABLES),
    threads: 1
    resources:
        mem_mb=16000,
    params:
        table=lambda wildcards: TABLES[wildcards.table].settings,
        lineages=for_job(runs.lineages, tables=TABLES),
        baseline=lambda wildcards: runs.cost_baseline(TABLES[wildcards.table], COMPARED[0]),
        seed=SEED,
        version=steps.version("cost"),
    message:
        "Counting what the runs of {wildcards.table} cost at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_cost.py"


rule join_comparisons:
    input:
        tables=[fill(rules.compare_table.output.csv, table=table) for table in PAPER_TABLES],
        data_tables=[fill(rules.make_data_table.output.csv, table=table) for table in DATA_TABLES],
    output:
        csv=in_report("<tables>/comparison.csv", "comparison", "Tables", table="comparison"),
    log:
        "<logs>/join_comparisons/comparison.log",
    benchmark:
        "<timings>/join_comparisons/comparison.tsv"
    threads: 1
    resources:
        mem_mb=500,
    params:
        version=steps.version("table"),
    message:
        "Putting all tables' cells at {wildcards.scale} scale beside the paper's"
    script:
        "../workflow_scripts/join_comparisons.py"


# The paper's own arithmetic: no model, no scale.
rule audit_paper:
    input:
        expand(
            "config/reported/{name}.csv",
            name=["results", "second_best", "quoted", "gran29m_groups", "gran29m_sources"],
        ),
    output:
        csv="results/audit.csv",
        md="results/audit.md",
    log:
        "results/logs/audit_paper/audit.log",
    benchmark:
        "results/timings/audit_paper/audit.tsv"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        tables=TABLES["table1"].shared.model_dump(exclude={"tables"}),
        version=steps.version("audit"),
    message:
        "Computing the paper's averages, totals and margins again"
    script:
        "../workflow_scripts/audit_paper.py"


rule copy_table:
    input:
        csv="<tables>/{table}.csv",
        md="<tables>/{table}.md",
    output:
        csv="results/{table}.csv",
        md="results/{table}.md",
    log:
        "results/logs/copy_table/{table}.log",
    benchmark:
        "results/timings/copy_table/{table}.tsv"
    pathvars:
        results=f"results/{SCALE}",
    wildcard_constraints:
        table="|".join([r"table\d+|seeds", *BEYOND_TABLES, *(rf"{table}\.cost" for table in COST_TABLES)]),
    threads: 1
    resources:
        mem_mb=100,
    message:
        f"Copying {{wildcards.table}} of the {SCALE} scale"
    script:
        "../workflow_scripts/copy_files.py"


use rule copy_table as copy_comparison with:
    input:
        "<tables>/comparison.csv",
    output:
        "results/comparison.csv",
    log:
        "results/logs/copy_table/comparison.log",
    benchmark:
        "results/timings/copy_table/comparison.tsv"
    message:
        f"Copying the comparison of the {SCALE} scale"
