"""Rule measure_page_boxes: what texts of pages cost by PaddleOCR's boxes and by those of the ink."""

from _script import run


def main(job, log):
    from granvit.miniature.page_boxes import write_page_losses

    given, asked = job.input, job.params
    write_page_losses(given.model, given.mixture, asked.rendered, asked.images, job.output.losses)


run(snakemake, main)
