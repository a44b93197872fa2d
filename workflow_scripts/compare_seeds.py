"""Rule compare_seeds: two rows of Table 1 over several seeds."""

from _script import run


def main(job, log):
    from granvit.reporting.seeds import make_seeds

    make_seeds(
        job.params.recipes,
        job.params.seeds,
        scores_root=f"results/{job.wildcards.scale}/scores",
        scale=job.wildcards.scale,
        out_csv=job.output.csv,
        out_md=job.output.md,
    )


run(snakemake, main)
