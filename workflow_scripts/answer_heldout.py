"""Rule answer_heldout: one model's answers to questions on regions of held-out images."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.evaluation.heldout_answers import answer_heldout

    answer_heldout(
        Path(job.input.model),
        Path(job.input.heldout),
        job.params.data_types,
        job.params.questions,
        Path(job.output.answers),
        job.params.batch_size,
        job.params.device,
        log,
    )


run(snakemake, main)
