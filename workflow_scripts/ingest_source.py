"""Rule ingest_source: one shard of a raw source."""

from _script import run


def main(job, log):
    from _source import source_of

    from granvit.config.loading import load_config
    from granvit.data.sources.ingest import ingest_shard

    # Not from the rule's params: the limit changes no shard, so it reruns nothing.
    data = load_config(job.wildcards.scale, job.config["overrides"]).data
    ingest_shard(
        source_of(job),
        job.params.shard,
        job.input.catalogue,
        job.output.tar,
        job.output.rejects,
        job.output.counts,
        max_pixels=job.params.max_image_pixels,
        max_reject_share=data.max_reject_share,
        log=log,
    )


run(snakemake, main)
