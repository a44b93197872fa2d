"""Rule audit_annotations: what detector, captioner and OCR got right, where the truth is known."""

from itertools import chain

from _script import run


def main(job, log):
    from granvit.config.data import FilterRules
    from granvit.data.records.shards import shard_records
    from granvit.data.sources.table import SourceSpec
    from granvit.data.sources.truth import read_truth
    from granvit.miniature.truth import rendered_truth
    from granvit.reporting.annotation_audit import NO_TRUTH, NOTHING_ANNOTATED, Audited, make_annotation_audit

    files = iter(job.input.records)

    def audited(one):
        spec = SourceSpec(**one["row"])
        made_by = {"boxes": spec.boxes, "texts": spec.text, "captions": spec.captions}
        if one["truth"] is None:
            known = NOTHING_ANNOTATED if set(made_by.values()) == {"none"} else NO_TRUTH
            return Audited(spec.name, made_by, known)
        records = chain.from_iterable(map(shard_records, [next(files) for _ in spec.shard_names()]))
        truth_of = rendered_truth(spec.name, one["rendered"]) if one["rendered"] else read_truth(spec)
        filters = FilterRules(**one["filters"]) if spec.is_annotated else None
        return Audited(spec.name, made_by, one["truth"], records, truth_of, filters)

    make_annotation_audit(map(audited, job.params.sources), job.output.report, log)


run(snakemake, main)
