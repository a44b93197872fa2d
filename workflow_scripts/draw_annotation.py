"""Rule draw_annotation: Figure 2, one image from its pixels to the questions of training."""

from _script import run


def main(job, log):
    from granvit.config.data import FilterRules
    from granvit.reporting.annotation_figure import draw_annotation
    from granvit.reporting.data_samples import first_with_images

    shards = dict(zip(job.input.indexes, job.input.annotated, strict=True))
    index = str(first_with_images(shards))
    draw_annotation(
        shards[index],
        index,
        FilterRules(**job.params.drawn["rules"]),
        job.params.drawn["made_by"],
        job.wildcards.scale,
        job.output.figure,
        job.output.pdf,
    )


run(snakemake, main)
