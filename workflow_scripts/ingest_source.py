"""Rule ingest_source: one shard of a raw source."""

from _script import run


def main(job, log):
    from _config import config_of
    from _source import source_of

    from granvit.data.sources.ingest import ingest_shard

    ingest_shard(
        source_of(job),
        job.params.shard,
        job.input.catalogue,
        job.output.tar,
        job.output.rejects,
        job.output.counts,
        max_pixels=job.params.max_image_pixels,
        max_reject_share=config_of(job).data.max_reject_share,
        max_cut_share=config_of(job).data.max_cut_share,
        log=log,
    )


run(snakemake, main)
