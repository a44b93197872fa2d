"""Rule annotate_regions: boxes and texts of one shard, from where its source's row says they come."""

import hashlib
import json
from pathlib import Path

from _script import run


def main(job, log):
    from _config import config_of

    from granvit.data.annotators.annotate import annotate_shard
    from granvit.data.annotators.choose import build_annotators

    config = config_of(job)  # where and how fast annotators run
    chosen = dict(job.params.annotators)
    settings = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
    chosen.pop("versions")
    state = Path("state") / job.wildcards.scale / "annotate" / job.wildcards.source
    # A captioner's answers say themselves what they depend on, so they outlive a change of settings.
    answers = state / f"{job.wildcards.shard}.answers.jsonl"
    annotate_shard(
        job.input.tar,
        job.output.records,
        job.output.rejects,
        job.output.counts,
        build_annotators(chosen, config.data, config.compute, job.threads, answers, log),
        journal=state / f"{job.wildcards.shard}-{settings}.jsonl",
        log=log,
    )
    for of_other_settings in state.glob(f"{job.wildcards.shard}-*.jsonl"):
        of_other_settings.unlink()


run(snakemake, main)
