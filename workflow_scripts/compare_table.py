"""Rule compare_table: every cell of one table, beside the paper's and with its interval."""

from _script import run


def main(job, log):
    from granvit.config.tables import load_tables
    from granvit.reporting.comparison import compare_table

    results = f"results/{job.wildcards.scale}"
    compare_table(
        load_tables()[job.wildcards.table],
        scores_root=f"{results}/scores",
        runs_root=results,
        chance_root=f"{results}/chance/scores",
        scale=job.wildcards.scale,
        seed=job.params.seed,
        out_csv=job.output.csv,
        reported_csv=job.input.reported,
    )


run(snakemake, main)
