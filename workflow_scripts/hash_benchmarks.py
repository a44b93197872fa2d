"""Rule hash_benchmarks: perceptual hashes of the benchmarks' images."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.data.mixtures.contamination import hash_benchmarks
    from granvit.evaluation.benchmarks import load_benchmarks, read_questions
    from granvit.evaluation.tsv_files import read_images

    folder = job.params.questions["folder"]

    def images():
        for benchmark in load_benchmarks():
            shown = {}  # the first question that shows each image
            for question in read_questions(benchmark, folder):
                for digest in question.images:
                    shown.setdefault(digest, question.index)
            for digest, data in read_images(Path(folder) / benchmark.tsv, shown):
                yield benchmark.name, shown[digest], data

    hash_benchmarks(images(), job.output.hashes, log)


run(snakemake, main)
