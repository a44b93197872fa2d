"""Rules pretrain_projector, train_stage1, train_stage2, continue_pretraining, finetune_sft: one training run."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.schema import EncoderSpec, LLMSpec, Recipe
    from granvit.training.run import train

    def folder(name):
        path = job.input.get(name)
        return Path(path) if path else None

    train(
        recipe=Recipe(**job.params.run["recipe"]),
        seed=int(job.wildcards.seed),
        encoder=EncoderSpec(**job.params.run["encoder"]),
        llm=LLMSpec(**job.params.run["llm"]),
        parent_dir=folder("parent"),
        encoder_dir=folder("encoder_from"),
        mixture=Path(job.input.mixture),
        heldout=folder("heldout"),
        out_dir=Path(job.output.manifest).parent,
        state_dir=Path(job.params.state),
        device=job.params.device,
        log=log,
    )


run(snakemake, main)
