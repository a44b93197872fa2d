"""Rule build_standin_encoder: one stand-in vision encoder, pretrained by its namesake's objective."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.miniature.standins.build import build_encoder

    llm = job.input.get("llm")
    build_encoder(
        job.wildcards.encoder,
        Path(job.output.model),
        job.params.seed,
        pool=Path(job.input.pool),
        llm_dir=Path(llm) if llm else None,
        log=log,
    )


run(snakemake, main)
