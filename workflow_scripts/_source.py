"""The source that a job works on."""

from __future__ import annotations

from dataclasses import replace

from _config import config_of

from granvit.data.sources.table import read_sources


def source_of(job):
    """The row of the sources file that a job's wildcards name, its folder resolved for the scale.

    The rule's params hold only what the job's output depends on; messages tell more.
    """
    source = read_sources(config_of(job).data.sources)[job.wildcards.source]
    return replace(source, path=job.params.source["path"])
