"""Rule catalogue_source: every image of a raw source, by shard."""

from _script import run, source_of


def main(job, log):
    from granvit.data.catalogue import catalogue_source

    catalogue_source(source_of(job), job.output.catalogue, log)


run(snakemake, main)
