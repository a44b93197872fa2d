"""What a site changes in a shipped profile: partition, sizes, intervals; for the tests the scale too."""

from __future__ import annotations

from pathlib import Path


def fit_profile(
    folder: Path, kind: str, nodes: int = 1, devices: int = 1, partition: str = "test", minutes: int = 10
) -> None:
    """Edit the profile ``kind`` of a copy of the repository, as docs/clusters.md says, for training runs on
    ``nodes`` of ``devices`` each, at smoke scale, a job at most ``minutes`` long. Every edit has to find its
    place."""
    profile = {
        "scale=paper": "scale=smoke",
        "# slurm_partition: name": f"slurm_partition: {partition}",
        "latency-wait: 60": "latency-wait: 5",
        "before-status-checks: 20": "before-status-checks: 2",
        f"'{kind}:8'": f"'{kind}:{devices}'",
        "cpus_per_task: 64": f"cpus_per_task: {devices}",
        "mem_mb: 256000": "mem_mb: 4000",
        "mem_mb: 64000 * attempt": "mem_mb: 4000 * attempt",
        "mem_mb: 16000 * attempt": "mem_mb: 1000 * attempt",
        "runtime: 2880\n    # On": f"runtime: {minutes}\n    # On",
    }
    compute = {
        "train_devices: 8": f"train_devices: {devices}",
        "train_threads: 64": f"train_threads: {devices}",
    }
    if nodes > 1:
        profile |= {"nodes: 1\n    cpus": f"nodes: {nodes}\n    cpus", "# tasks: 16": f"tasks: {nodes}",
                    "# mpi:": "mpi:"}  # fmt: skip
        compute |= {"train_nodes: 1": f"train_nodes: {nodes}", "launcher: torchrun": "# torchrun",
                    "# launcher": "launcher", "#   srun": "  srun", "#   --rdzv": "  --rdzv"}  # fmt: skip
    _edit(folder / f"profiles/{kind}/profile.yaml", profile)
    _edit(folder / f"profiles/{kind}/compute.yaml", compute)


def _edit(file: Path, changes: dict[str, str]) -> None:
    text = file.read_text()
    for old, new in changes.items():
        assert old in text, f"{file}: no '{old}'"
        text = text.replace(old, new)
    file.write_text(text)
