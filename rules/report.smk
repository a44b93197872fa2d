"""The report: every table, figure and answer as pages that open from disk."""


localrules:
    copy_report,


rule make_report:
    input:
        unpack(report_inputs),
        reported="config/reported/results.csv",
        questions=question_files,
    output:
        site=directory("<results>/report"),
    log:
        "<logs>/make_report/report.log",
    benchmark:
        "<timings>/make_report/report.tsv"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        tables=TABLES_SHOWN,
        figures=FIGURES_SHOWN,
        drawn=DRAWN,
        captions=FIGURES.captions,
        compared=COMPARED,
        # Rule -> phase, which is the file of rules/ that it stands in; all are known when the job is
        phases=lambda wildcards: {rule.name: Path(rule.snakefile).stem for rule in workflow.rules},
        settings=for_job(graph_report.layout_settings),
        look=graph_report.look(),
        version=steps.version("report"),
    message:
        "Making the report of the {wildcards.scale} scale"
    script:
        "../workflow_scripts/make_report.py"


# A copy of thousands of files, so links to the same bytes where the disk has them.
rule copy_report:
    input:
        site="<results>/report",
    output:
        site=directory("results/report"),
    log:
        "results/logs/copy_report/report.log",
    benchmark:
        "results/timings/copy_report/report.tsv"
    pathvars:
        results=f"results/{SCALE}",
    threads: 1
    resources:
        mem_mb=100,
    message:
        f"Copying the report of the {SCALE} scale"
    script:
        "../workflow_scripts/copy_files.py"
