"""Rule catalogue_source: every image of a raw source, by shard."""

from pathlib import Path

from _script import run


def main(job, log):
    from _source import source_of

    from granvit.data.sources.catalogue import catalogue_source
    from granvit.files import remove_surplus_shards

    source = source_of(job)
    catalogue_source(source, job.output.catalogue, log)
    remove_surplus_shards(Path(job.output.catalogue).parents[1], source.name, source.shard_names())


run(snakemake, main)
