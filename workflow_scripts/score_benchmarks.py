"""Rules score_benchmarks and score_shuffled: scores of one model's answers to all benchmarks."""

from _script import run


def main(job, log):
    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.evaluation.score import write_score

    for benchmark, predictions, scores in zip(
        load_benchmarks(), job.input.predictions, job.output.scores, strict=True
    ):
        write_score(predictions, benchmark, job.params.questions["folder"], scores)


run(snakemake, main)
