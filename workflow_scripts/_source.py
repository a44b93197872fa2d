"""The source that a job works on."""

from __future__ import annotations

from dataclasses import replace

from granvit.config.loading import load_config
from granvit.data.sources.table import read_sources


def source_of(job):
    """The row of the sources file that a job's wildcards name, its folder resolved for the scale.

    The rule's params hold only what the job's output depends on; messages tell more.
    """
    data = load_config(job.wildcards.scale, job.config["overrides"]).data
    source = read_sources(data.sources)[job.wildcards.source]
    return replace(source, path=job.params.source["path"])
