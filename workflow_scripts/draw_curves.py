"""Rule draw_curves: Figure 4a, both region tasks during stage 1 and stage 2."""

from _script import run


def main(job, log):
    from granvit.reporting.curves import heldout_curves

    heldout_curves(job.input.logs, job.output.figure, job.wildcards.scale, dict(job.params.facts))


run(snakemake, main)
