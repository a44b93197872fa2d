"""Rule report_rejects: what was left out, by source and cause, summed over the shards."""

from _script import run


def main(job, log):
    from granvit.data.records.reports import reject_report

    reject_report([*job.input.ingested, *job.input.annotated], job.output.report)


run(snakemake, main)
