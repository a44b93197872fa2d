"""The two rules that check devices: those of a training job, and that of a job with one."""

from pathlib import Path

from _script import run


def main(job, log):
    from _config import config_of

    from granvit.training.cluster_check import Check, check_devices

    compute, training, out = config_of(job).compute, job.params.training, Path(job.output.report)
    check = Check(
        out=out,
        folder=out.with_suffix(""),
        device=compute.device,
        devices=max(compute.train_devices, 1) if training else 1,
        nodes=compute.train_nodes if training else 1,
        file_mib=256 if compute.train_devices else 16,
    )
    check_devices(check, compute.launcher if training else None)


run(snakemake, main)
