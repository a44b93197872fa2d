"""The paper's claims, each with an interval and a verdict (docs/claims.md)."""


localrules:
    copy_claims,


rule make_claims:
    input:
        unpack(files_asked(graph_claims.files, content=CLAIMS, tables=TABLES)),
        questions=question_files,
        reported=expand("config/reported/{name}.csv", name=["results", "curves"]),
    output:
        csv="<tables>/claims.csv",
        md=in_report("<tables>/claims.md", "claims", "Tables", table="claims"),
    log:
        "<logs>/make_claims/claims.log",
    benchmark:
        "<timings>/make_claims/claims.tsv"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        claims=CLAIMS.model_dump(),
        facts=for_job(graph_claims.claim_facts, content=CLAIMS, tables=TABLES),
        tables={name: table.settings for name, table in TABLES.items()},
        questions=for_job(runs.scored_settings),
        version=steps.version("claims"),
    message:
        "Testing the paper's claims at {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_claims.py"


use rule copy_table as copy_claims with:
    input:
        csv="<tables>/claims.csv",
        md="<tables>/claims.md",
    output:
        csv="results/claims.csv",
        md="results/claims.md",
    log:
        "results/logs/copy_claims/claims.log",
    benchmark:
        "results/timings/copy_claims/claims.tsv"
    message:
        f"Copying the claims of the {SCALE} scale"
