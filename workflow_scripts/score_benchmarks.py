"""Rules score_benchmarks and score_shuffled: scores of one model's answers to all benchmarks."""

import sys

from _script import run


def main(job, log):
    from granvit.config.loading import load_config
    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.evaluation.judge import make_judge
    from granvit.evaluation.score import write_score
    from granvit.progress import write_log

    def say(line):
        print(line, file=sys.stderr, flush=True)
        write_log(log, line)

    # Not from the rule's params: where a judge is and how patiently it is asked changes no score.
    evaluation = load_config(job.wildcards.scale, job.config["overrides"]).evaluation
    judge = make_judge(evaluation.judge)
    for benchmark, predictions, scores in zip(
        load_benchmarks(), job.input.predictions, job.output.scores, strict=True
    ):
        write_score(predictions, benchmark, job.params.questions["folder"], scores, judge, say)


run(snakemake, main)
