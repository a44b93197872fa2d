"""Rule hash_benchmarks: perceptual hashes of the benchmarks' images."""

from _script import run


def main(job, log):
    from granvit.data.mixtures.contamination import hash_benchmarks
    from granvit.evaluation.benchmarks import shown_images

    hash_benchmarks(shown_images(job.params.questions["folder"]), job.output.hashes, log)


run(snakemake, main)
