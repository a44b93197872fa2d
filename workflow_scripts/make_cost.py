"""Rule make_cost: what the rows of a table took to train."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.config.tables import load_tables
    from granvit.reporting.cost_table import make_cost_table
    from granvit.training.ledger import costs

    scale, lineages = job.wildcards.scale, job.params.lineages
    folders = [Path(manifest).parent for manifest in job.input.manifests]
    models = {Path(model).parts[-3]: Path(model) for model in job.input.models}
    make_cost_table(
        load_tables()[job.wildcards.table],
        lineages,
        costs(folders, models, Path(job.input.mixtures[0]).parent),
        baseline=job.params.baseline,
        scale=scale,
        out_csv=job.output.csv,
        out_md=job.output.md,
    )


run(snakemake, main)
