"""Rule render_standin_pool: the pictures that every stand-in encoder is pretrained on."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.miniature.standins import data as standin_data
    from granvit.miniature.standins import encoders as standin_encoders

    standin_data.draw_pictures(Path(job.output.pool), standin_encoders.POOL)


run(snakemake, main)
