"""Rule measure_page_boxes: what texts of pages cost by PaddleOCR's boxes and by those of the ink."""

from pathlib import Path

from _script import run


def main(job, log):
    from granvit.miniature.page_boxes import write_page_losses

    given = job.input
    truths = {name: Path(raw) / "truth.json" for name, raw in zip(job.params.sources, given.raw, strict=True)}
    write_page_losses(given.model, given.mixture, truths, job.params.images, job.output.losses)


run(snakemake, main)
