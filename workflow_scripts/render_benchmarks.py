"""Rule render_benchmarks: the miniature's benchmarks, as VLMEvalKit's TSV files."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.miniature.benchmarks.render import write_benchmarks
    from granvit.miniature.benchmarks.rows import Draw

    write_benchmarks(
        Path(job.output.questions[0]).parent, job.params.questions, Draw(job.params.split, job.params.first)
    )


run(snakemake, main)
