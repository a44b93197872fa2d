"""Rule draw_samples: Figures 6 and 7, samples of each source with their boxes and texts."""

from _script import run


def main(job, log):
    from granvit.reporting.data_figures import draw_samples

    draw_samples(
        job.input.indexes, job.params.title, job.wildcards.scale, job.output.figure, job.output.pdf, log
    )


run(snakemake, main)
