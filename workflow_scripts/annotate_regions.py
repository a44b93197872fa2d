"""Rule annotate_regions: regions of one shard, as its source's annotator finds them."""

from _script import run


def main(job, log):
    from granvit.data.annotate import annotate_given, annotate_ocr
    from granvit.data.ocr import OcrEngine

    if job.params.annotator == "given":
        annotate_given(job.input.tar, job.output.records)
        return
    ocr = dict(job.params.ocr)
    min_score = ocr.pop("min_score")
    annotate_ocr(job.input.tar, job.output.records, OcrEngine(threads=job.threads, **ocr), min_score, log)


run(snakemake, main)
