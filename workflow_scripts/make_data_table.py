"""Rule make_data_table: Table 6 or 7, counted from the packed shards' indexes."""

from _script import run


def main(job, log):
    import pandas as pd

    from granvit.data.sources.table import read_sources
    from granvit.reporting.data_tables import count_indexes, make_table6, make_table7

    sources = pd.DataFrame(job.params.sources, columns=["source", "data_type", "group"])
    found = count_indexes(job.input.indexes, log)
    out = (job.wildcards.scale, job.output.csv, job.output.md)
    if job.wildcards.table == "table6":
        make_table6(sources, found, *out, job.input.sources)
    else:
        groups = {source.name: source.group for source in read_sources(job.input.assignment).values()}
        make_table7(sources, found, groups, *out, job.input.groups, job.input.sources)


run(snakemake, main)
