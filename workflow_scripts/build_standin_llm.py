"""Rule build_standin_llm: one stand-in language model with its tokenizer, pretrained from nothing or grown
from the smallest."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.miniature.standins.build import build_llm

    smallest = job.input.get("smallest")
    build_llm(
        job.wildcards.llm,
        Path(job.output.model),
        job.params.seed,
        start=Path(smallest) if smallest else None,
        log=log,
    )


run(snakemake, main)
