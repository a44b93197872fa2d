"""Rule make_locality: attention_locality.csv, the locality of each encoder with its interval."""

from _script import run


def main(job, log):
    from granvit.reporting.locality_table import make_locality

    recipes = job.params.encoders
    files = dict(zip(recipes, job.input.boxes, strict=True))
    make_locality(files, recipes, job.wildcards.scale, job.output.csv)


run(snakemake, main)
