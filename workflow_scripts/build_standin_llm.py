"""Rule build_standin_llm: one stand-in language model with its tokenizer, pretrained from nothing."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.miniature.standins import build_llm

    build_llm(job.wildcards.llm, Path(job.output.model), job.params.seed, log=log)


run(snakemake, main)
