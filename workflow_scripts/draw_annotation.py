"""Rule draw_annotation: Figure 2, one image from its pixels to the questions of training."""

from _script import run


def main(job, log):
    from granvit.config.data import FilterRules
    from granvit.reporting.annotation_figure import annotation_page
    from granvit.reporting.data_samples import choose_annotation, first_with_images
    from granvit.reporting.drawing import save_figure

    shards = dict(zip(job.input.indexes, job.input.annotated, strict=True))
    index = str(first_with_images(shards))
    rules = FilterRules(**job.params.drawn["rules"])
    chosen = choose_annotation(shards[index], index, rules)
    drawn = job.params.drawn
    page = annotation_page(chosen, rules, drawn["made_by"], job.wildcards.scale, drawn["title"])
    facts = {"scale": job.wildcards.scale, "keys": [chosen.record.key], "settings": job.params.drawn}
    save_figure(page, job.output.figure, facts)


run(snakemake, main)
