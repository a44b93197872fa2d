"""The five rules that train: one run from its recipe."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.schema import EncoderSpec, LLMSpec, Recipe
    from granvit.training.run import train

    def run_folder(name):
        manifest = job.input.get(name)
        return Path(manifest).parent if manifest else None

    train(
        recipe=Recipe(**job.params.run["recipe"]),
        seed=int(job.wildcards.seed),
        encoder=EncoderSpec(**job.params.run["encoder"]),
        llm=LLMSpec(**job.params.run["llm"]),
        parent_dir=run_folder("parent"),
        encoder_dir=run_folder("encoder_from"),
        mixture=Path(job.input.mixture),
        heldout=Path(job.input.heldout) if job.input.get("heldout") else None,
        out_dir=Path(job.output.manifest).parent,
        state_dir=Path(job.params.state),
        device=job.params.device,
        log=log,
    )


run(snakemake, main)
