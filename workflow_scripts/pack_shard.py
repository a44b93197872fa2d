"""Rule pack_shard: images and final records of one shard, with an index."""

from _script import run


def main(job, log):
    from granvit.data.records.pack import pack_shard

    pack_shard(job.input.tar, job.input.records, job.output.tar, job.output.index)


run(snakemake, main)
