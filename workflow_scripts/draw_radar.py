"""Rule draw_radar: Figure 1a, the models of Table 1 as a radar and as dots with intervals."""

from _script import run


def main(job, log):
    from granvit.config.tables import load_tables
    from granvit.reporting.figures import radar

    facts = dict(job.params.facts)
    radar(
        job.input.cells, load_tables()["table1"].shared, facts["settings"]["span"], job.output.figure, facts
    )


run(snakemake, main)
