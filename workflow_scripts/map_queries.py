"""Rule map_queries: the maps of the query points of Figures 1b, 8 and 9."""

from _script import run


def main(job, log):
    from granvit.config.figures import QueryPoints
    from granvit.evaluation.query_maps import map_queries

    map_queries(
        dict(zip(job.params.encoders, job.input.models, strict=True)),
        job.input.mixture,
        job.params.data_types,
        QueryPoints(**job.params.points),
        job.output.maps,
        job.output.points,
        job.params.device,
        log,
    )


run(snakemake, main)
