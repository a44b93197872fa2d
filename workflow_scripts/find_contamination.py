"""Rule find_contamination: training images that look like a benchmark's."""

from _script import run


def main(job, log):
    from granvit.data.mixtures.contamination import find_contamination

    find_contamination(
        job.input.indexes,
        job.input.hashes,
        job.output.matches,
        job.output.report,
        job.params.max_distance,
        log,
    )


run(snakemake, main)
