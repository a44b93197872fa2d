"""Rule draw_mixture: which images and regions serve which task."""

from _script import run


def main(job, log):
    from granvit.data.mixtures.mixture import Drawing

    draw = job.params.draw
    drawing = Drawing(
        job.input.indexes,
        job.output.mixture,
        job.output.summary,
        draw["heldout_share"],
        contamination=job.input.get("contamination") or None,
        log=log,
    )
    if draw["kind"] == "heldout":
        drawing.held_out()
    elif draw["kind"] == "conversations":
        drawing.conversations()
    else:
        drawing.regions(
            draw["tasks"],
            budget_regions=draw["regions"],
            ocr_share=draw["ocr_region_share"],
            global_captions=draw["global_captions"],
            sample_by=draw["sample_by"],
            shuffled=draw.get("shuffled", False),
        )


run(snakemake, main)
