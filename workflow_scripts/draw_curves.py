"""Rule draw_curves: Figure 4a, both region tasks during stage 1 and stage 2."""

from _script import run


def main(job, log):
    from granvit.reporting.curves import heldout_curves

    facts = dict(job.params.facts)
    runs, logs = facts["settings"]["runs"], list(job.input.logs)
    seeds = len(logs) // len(runs)
    by_run = [logs[at : at + seeds] for at in range(0, len(logs), seeds)]
    heldout_curves(by_run, job.output.figure, job.wildcards.scale, facts)


run(snakemake, main)
