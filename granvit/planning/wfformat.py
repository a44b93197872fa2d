"""A plan in WfFormat 1.5 (wfcommons.org), which other simulators of workflows replay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from granvit.files import write_json
from granvit.planning.amounts import folder_bytes
from granvit.planning.jobs import Job
from granvit.planning.plan import Plan, stage_of

VERSION = "1.5"


def write(plan: Plan, path: str | Path, now: datetime | None = None) -> None:
    """Write the whole graph, finished jobs too, and its simulated run."""
    write_json(path, instance(plan, now or datetime.now(UTC)), sort_keys=False)


def instance(plan: Plan, now: datetime) -> dict[str, Any]:
    """The document. Runtimes in seconds, sizes in bytes; a file that no job makes and that is not there has
    0 bytes."""
    jobs = [job for job in plan.jobs if not job.makes_nothing]
    known = {job.number for job in jobs}
    names = {job.number: f"{job.rule}_{job.number}" for job in jobs}
    children: dict[int, list[str]] = {job.number: [] for job in jobs}
    for job in jobs:
        for need in job.needs:
            if need in known:
                children[need].append(names[job.number])
    places = {one.number: f"node{one.nodes[0]}" for one in plan.schedule.ran}
    tasks = [_task(job, names, children, known) for job in jobs]
    return {
        "name": f"granvit-{plan.scale}",
        "description": f"{', '.join(plan.targets) or 'all'} at {plan.scale} scale, as planned",
        "createdAt": now.isoformat(timespec="seconds"),
        "schemaVersion": VERSION,
        "workflow": {
            "specification": {"tasks": tasks, "files": _files(plan, jobs)},
            "execution": {
                "makespanInSeconds": plan.schedule.makespan,
                "executedAt": now.isoformat(timespec="seconds"),
                "tasks": [_run(plan, job, names, places) for job in jobs],
                "machines": _machines(plan),
            },
        },
    }


def _task(
    job: Job, names: Mapping[int, str], children: Mapping[int, list[str]], known: set[int]
) -> dict[str, Any]:
    return {
        "name": job.rule,
        "id": names[job.number],
        "parents": [names[need] for need in job.needs if need in known],
        "children": children[job.number],
        "inputFiles": [file_id(path) for path in dict.fromkeys(job.inputs)],
        "outputFiles": [file_id(path) for path in dict.fromkeys(job.outputs)],
    }


def _run(plan: Plan, job: Job, names: Mapping[int, str], places: Mapping[int, str]) -> dict[str, Any]:
    memory = job.resources.get("mem_mb")
    known = {"memoryInBytes": int(memory) * 1_000_000} if isinstance(memory, int) else {}
    return {
        "id": names[job.number],
        "runtimeInSeconds": plan.seconds[job.number],
        "coreCount": job.cores * job.nodes,
        "priority": round(job.priority),
        "command": {"program": "snakemake", "arguments": [stage_of(job), job.name]},
        **({"machine": places[job.number]} if job.number in places else {}),
        **known,
    }


def file_id(path: str) -> str:
    """A path in the letters that the format allows in a file's name.

    >>> file_id("results/mini/scores/RefCOCO+.json")
    'results__mini__scores__RefCOCO-2b-.json'
    """
    return re.sub(r"[^0-9a-zA-Z_.-]", lambda found: f"-{ord(found[0]):x}-", path.replace("/", "__"))


def _machines(plan: Plan) -> list[dict[str, Any]]:
    cpu = {"coreCount": plan.machines.cores}
    return [{"nodeName": f"node{number}", "cpu": cpu} for number in range(plan.machines.nodes)]


def _files(plan: Plan, jobs: list[Job]) -> list[dict[str, Any]]:
    """Each file once; what a job is planned to write is shared out evenly among its outputs."""
    sizes: dict[str, int] = {}
    for job in jobs:
        for output in job.outputs:
            sizes[output] = folder_bytes(output) or round(plan.amounts[job.number].bytes / len(job.outputs))
    for job in jobs:
        for file in job.inputs:
            if file not in sizes:
                sizes[file] = folder_bytes(file)
    return [{"id": file_id(path), "sizeInBytes": size} for path, size in sizes.items()]
