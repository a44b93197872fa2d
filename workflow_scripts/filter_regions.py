"""Rule filter_regions: the paper's filters on one shard."""

from _script import run


def main(job, log):
    from granvit.config.data import FilterRules
    from granvit.data.records.filters import filter_shard

    (records,) = job.input.records
    filter_shard(records, job.output.records, job.output.counts, FilterRules(**job.params.rules))


run(snakemake, main)
