"""Rule render_source: a raw source of the miniature."""

from _script import run


def main(job, log):
    from granvit.miniature.sources import render_source

    render_source(job.wildcards.source, job.params.images, job.output.raw)


run(snakemake, main)
