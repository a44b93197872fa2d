"""Rule draw_pipeline: Figure 3, the stages of training as the recipes say."""

from _script import run


def main(job, log):
    from granvit.reporting.pipeline_figure import draw_pipeline

    draw_pipeline(job.params.panels, job.wildcards.scale, job.output.figure, dict(job.params.facts))


run(snakemake, main)
