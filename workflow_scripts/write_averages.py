"""Rule write_averages: Table 1's averages for `dvc metrics`."""

from _script import run


def main(job, log):
    from granvit.reporting.averages import write_averages

    write_averages(job.input.table, job.output.averages)


run(snakemake, main)
