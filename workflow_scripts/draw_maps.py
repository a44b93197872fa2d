"""Rule draw_maps: Figures 1b, 8 and 9, what a query patch looks at."""

from _script import run


def main(job, log):
    from granvit.reporting.drawing import save_figure
    from granvit.reporting.map_figures import TITLES, maps_page

    facts, title = job.params.facts, TITLES[job.wildcards.figure]
    shown = (list(facts["settings"]["encoders"]), facts["settings"]["threshold"], job.wildcards.scale)
    page, queries = maps_page(job.input.maps, job.input.points, title, *shown)
    save_figure(page, job.output.figure, facts | queries)


run(snakemake, main)
