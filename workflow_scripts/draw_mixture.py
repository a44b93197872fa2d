"""Rule draw_mixture: which images and regions serve which task."""

from _script import run


def main(job, log):
    from granvit.data.mixtures import mixture

    files = (job.input.indexes, job.output.mixture, job.output.summary)
    draw = job.params.draw
    common = {"contamination": job.input.get("contamination") or None, "log": log}
    if draw["kind"] == "heldout":
        mixture.build_heldout(*files, draw["heldout_share"], **common)
    elif draw["kind"] == "conversations":
        mixture.build_conversation_mixture(*files, draw["heldout_share"], **common)
    else:
        mixture.build_mixture(
            *files,
            tasks=draw["tasks"],
            budget_regions=draw["regions"],
            ocr_share=draw["ocr_region_share"],
            heldout_fraction=draw["heldout_share"],
            global_captions=draw["global_captions"],
            sample_by=draw["sample_by"],
            **common,
        )


run(snakemake, main)
