"""Rule make_claims: the paper's claims, tested on verdicts, attention and training logs."""

from _script import run


def main(job, log):
    from pathlib import Path

    from granvit.config.claims import load_claims
    from granvit.config.tables import load_tables
    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.reporting.claims import Source, make_claims

    tables, scale = load_tables(), job.wildcards.scale
    results, questions = Path(f"results/{scale}"), job.params.questions["folder"]
    source = Source(results, questions, load_benchmarks(), tables, **job.params.facts)
    make_claims(load_claims(tables), source, scale, job.output.csv, job.output.md)


run(snakemake, main)
