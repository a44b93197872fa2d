"""Rule make_table: one table of the paper, from score files."""

from _script import run


def main(job, log):
    from granvit.config.tables import load_tables
    from granvit.reporting.tables import make_table

    results = f"results/{job.wildcards.scale}"
    make_table(
        load_tables()[job.wildcards.table],
        scores_root=f"{results}/scores",
        scale=job.wildcards.scale,
        out_csv=job.output.csv,
        out_md=job.output.md,
        reported_csv=job.input.reported,
        chance_root=f"{results}/chance/scores",
        seed=job.params.seed,
        runs_root=results,
    )


run(snakemake, main)
