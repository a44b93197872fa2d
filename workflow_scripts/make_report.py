"""Rule make_report: the pages of everything that was made at a scale."""

from pathlib import Path

from _script import run


def main(job, log):
    from _config import config_of

    from granvit.config.tables import load_tables
    from granvit.reporting.site.pages import Wanted, make_report

    wanted = Wanted(
        config=config_of(job),
        results=Path(f"results/{job.wildcards.scale}"),
        tables=job.params.tables,
        figures=job.params.figures,
        manifests=job.input.manifests,
        phases=job.params.phases,
        drawn=job.params.drawn,
        captions=job.params.captions,
        compared=job.params.compared,
        reported_csv=Path(job.input.reported),
    )
    make_report(job.output.site, wanted, load_tables(), log)


run(snakemake, main)
