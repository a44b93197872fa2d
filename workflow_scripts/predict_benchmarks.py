"""Rules predict_benchmarks and predict_shuffled: one model's answers to all benchmarks."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.config.loading import load_config
    from granvit.evaluation.asks import PredictionJob
    from granvit.evaluation.benchmarks import load_benchmarks
    from granvit.evaluation.launch import predict_on_devices

    # Not from the rule's params: an answer does not depend on the number of devices, so it reruns nothing.
    compute = load_config(job.wildcards.scale, job.config["overrides"]).compute
    predict_on_devices(
        PredictionJob(
            model_dir=str(job.input.model),
            benchmarks=load_benchmarks(),
            data_dir=job.params.questions["folder"],
            out_dir=str(Path(job.output.predictions[0]).parent),
            batch_size=job.params.batch_size,
            device=job.params.device,
            shuffle_images=job.params.shuffle_images,
            log=str(log),
        ),
        compute.accelerators,
    )


run(snakemake, main)
