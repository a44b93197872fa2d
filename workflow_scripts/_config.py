"""The configuration, for what a job needs besides its parameters."""

from __future__ import annotations

from granvit.config.loading import Config, load_config


def config_of(job) -> Config:
    """What `config/` says at the job's scale: for settings that change nothing that the job writes. They are
    no parameters of its rule, so that a change of them reruns nothing."""
    return load_config(job.wildcards.scale, job.config["overrides"])
