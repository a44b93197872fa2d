"""Rules predict_benchmarks and predict_shuffled: one model's answers to all benchmarks."""

from pathlib import Path

from _script import run


def main(job, log):
    from _config import config_of

    from granvit.evaluation.asks import PredictionJob
    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.evaluation.launch import predict_on_devices
    from granvit.finished import remove_state_of

    remove_state_of(Path(job.input.model).parent)
    predict_on_devices(
        PredictionJob(
            model_dir=Path(job.input.model),
            benchmarks=load_benchmarks(),
            data_dir=Path(job.params.questions["folder"]),
            out_dir=Path(job.output.predictions[0]).parent,
            batch_size=job.params.batch_size,
            device=job.params.device,
            shuffle_images=job.params.shuffle_images,
            log=Path(log),
        ),
        config_of(job).compute.accelerators,
    )


run(snakemake, main)
