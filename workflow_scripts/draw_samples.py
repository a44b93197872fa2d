"""Rule draw_samples: Figures 6 and 7, samples of each source with their boxes and texts."""

from itertools import groupby
from pathlib import Path

from _script import run


def main(job, log):
    from granvit.reporting.data_figures import samples_page
    from granvit.reporting.data_samples import first_with_images
    from granvit.reporting.drawing import save_figure

    by_source = groupby(job.input.indexes, key=lambda index: Path(index).parent)
    shown = [first_with_images(shards) for _, shards in by_source]
    page, keys = samples_page(shown, job.params.title, job.wildcards.scale, log)
    facts = {
        "scale": job.wildcards.scale,
        "keys": keys,
        "settings": {"shards": [str(path) for path in shown]},
    }
    save_figure(page, job.output.figure, facts)


run(snakemake, main)
