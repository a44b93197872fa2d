"""Rules score_benchmarks and score_shuffled: scores of one model's answers to all benchmarks."""

from functools import partial

from _script import run


def main(job, log):
    from _config import config_of

    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.evaluation.judge import make_judge
    from granvit.evaluation.score import write_score
    from granvit.progress import say

    judge = make_judge(config_of(job).evaluation.judge)
    files = zip(load_benchmarks(), job.input.predictions, job.output.scores, job.output.verdicts, strict=True)
    for benchmark, predictions, scores, verdicts in files:
        data = job.params.questions["folder"]
        write_score(predictions, benchmark, data, scores, judge, partial(say, log), verdicts)


run(snakemake, main)
