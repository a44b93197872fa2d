"""Rule ingest_source: one shard of a raw source."""

from _script import run


def main(job, log):
    from granvit.data.ingest import ingest_shard
    from granvit.data.sources import SourceSpec

    ingest_shard(SourceSpec(**job.params.source), job.params.shard, job.output.tar, job.output.rejects)


run(snakemake, main)
