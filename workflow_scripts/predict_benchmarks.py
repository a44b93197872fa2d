"""Rules predict_benchmarks and predict_shuffled: one model's answers to all benchmarks."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.evaluation.predict import predict

    predict(
        job.input.model,
        load_benchmarks(),
        job.params.questions["folder"],
        Path(job.output.predictions[0]).parent,
        batch_size=job.params.batch_size,
        device=job.params.device,
        shuffle_images=job.params.shuffle_images,
        log=log,
    )


run(snakemake, main)
