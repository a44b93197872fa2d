"""Rule draw_answers: Figures 4b and 10 to 13, answers to questions on regions of held-out images."""

from _script import run


def main(job, log):
    from granvit.reporting.answer_figures import page_of
    from granvit.reporting.drawing import save_figure

    shown, facts = job.params.shown, job.params.facts
    page, found = page_of(
        job.wildcards.figure, shown, job.input.answers, job.input.heldout, job.wildcards.scale
    )
    save_figure(page, job.output.figure, facts | found | {"settings": facts["settings"] | shown})


run(snakemake, main)
