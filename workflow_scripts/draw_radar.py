"""Rule draw_radar: Figure 1a, the radar of Table 1."""

from _script import run


def main(job, log):
    from granvit.reporting.figures import radar

    radar(job.input.table, job.output.figure, dict(job.params.facts))


run(snakemake, main)
