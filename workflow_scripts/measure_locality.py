"""Rule measure_locality: where an encoder looks, over all held-out boxes."""

from _script import run


def main(job, log):
    from granvit.evaluation.locality import measure_locality

    given, made = job.input, job.output.boxes
    measure_locality(given.model, given.mixture, job.params.data_types, made, job.params.device, log)


run(snakemake, main)
