"""Rule report_filters: images and regions in and out of each rule, summed over the shards."""

from _script import run


def main(job, log):
    from granvit.data.records.reports import filter_report

    files = job.input
    filter_report([*files.ingested, *files.annotated, *files.filtered], job.output.report, log)


run(snakemake, main)
