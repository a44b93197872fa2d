"""Rule audit_paper: which printed numbers of the paper follow from its other numbers."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.config.tables import load_tables
    from granvit.reporting.audit import make_audit

    make_audit(Path(job.input[0]).parent, load_tables()["table1"].shared, job.output.csv, job.output.md)


run(snakemake, main)
