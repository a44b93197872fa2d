"""Rule catalogue_source: every image of a raw source, by shard."""

from dataclasses import replace

from _script import run


def main(job, log):
    from granvit.config import load_config
    from granvit.data.catalogue import catalogue_source
    from granvit.data.sources import read_sources

    # The row itself, for its notes on where the data come from; the rule's params hold what changes results.
    data = load_config(job.wildcards.scale, job.config["overrides"]).data
    source = read_sources(data.sources)[job.wildcards.source]
    catalogue_source(replace(source, path=job.params.source["path"]), job.output.catalogue, log)


run(snakemake, main)
