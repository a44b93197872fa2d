"""Rule join_comparisons: the cells of all tables in one file."""

from _script import run


def main(job, log):
    from granvit.reporting.comparison import join_comparisons

    join_comparisons(job.input.tables, job.input.data_tables, job.output.csv)


run(snakemake, main)
