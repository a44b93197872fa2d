"""A plan: the jobs of a graph with their work and their times, by stage and by table and figure, and what
playing it out says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from granvit.config.plan import Cluster, PlanFile
from granvit.graph.scale import Scale
from granvit.planning.amounts import ANSWERING, SCORING, TRAINING, Amounts, Estimates, written
from granvit.planning.graph import Asked, read_graph
from granvit.planning.jobs import Job
from granvit.planning.simulate import Machines, Schedule, critical_path, play
from granvit.planning.times import ASSUMED, Clock, Time, measured

HOUR = 3600
STAGES = ("data", *TRAINING.values(), "predict", "score", "tables and figures")
DATA_PHASES = ("miniature", "data")
MODEL_PHASES = ("answers", "maps")  # whose jobs ask a trained model, where they ask for a device


@dataclass(frozen=True)
class Line:
    """What some jobs take: ``device_hours`` and ``core_hours`` of all of them, ``hours_left`` of devices that
    are still to be spent, ``bytes`` of their outputs; ``basis``: job counts by where times come from."""

    name: str
    jobs: int
    done: int
    images: float
    tokens: float
    flops: float
    device_hours: float
    core_hours: float
    device_hours_left: float
    core_hours_left: float
    bytes: float
    basis: dict[str, int]


@dataclass(frozen=True)
class Plan:
    """``jobs``: of the graph, each behind all that it needs; ``amounts``, ``times``: by number; ``assumed``:
    in words; ``whole``: whether finished jobs are played out too."""

    scale: str
    targets: tuple[str, ...]
    profile: str | None
    jobs: list[Job]
    amounts: Mapping[int, Amounts]
    times: Mapping[int, Time]
    machines: Machines
    settings: PlanFile
    assumed: tuple[str, ...]
    whole: bool = False

    @cached_property
    def seconds(self) -> dict[int, float]:
        return {number: time.seconds for number, time in self.times.items()}

    @cached_property
    def played(self) -> list[Job]:
        """The jobs that are played out."""
        return [job for job in self.jobs if self.whole or not job.is_done]

    @cached_property
    def schedule(self) -> Schedule:
        return play(self.played, self.seconds, self.machines)

    @cached_property
    def doubled(self) -> Schedule:
        """The same on twice the nodes."""
        more = replace(self.machines, nodes=2 * self.machines.nodes)
        return play(self.played, self.seconds, more)

    @cached_property
    def unlimited(self) -> Schedule:
        """The same without limits over all jobs, as that of questions at a captioner's server."""
        return play(self.played, self.seconds, replace(self.machines, limits={}))

    @cached_property
    def critical(self) -> list[int]:
        return critical_path(self.played, self.seconds)

    @cached_property
    def critical_seconds(self) -> float:
        return sum(self.seconds[number] for number in self.critical)

    @property
    def holdup(self) -> Job | None:
        """The longest job of the chain that the last one waited for."""
        chain = self.schedule.chain()
        return self.job(max(chain, key=self.seconds.__getitem__)) if chain else None

    def job(self, number: int) -> Job:
        return self._by_number[number]

    @cached_property
    def _by_number(self) -> dict[int, Job]:
        return {job.number: job for job in self.jobs}

    def stages(self) -> list[Line]:
        """A line a stage that has jobs, and all of them."""
        by_stage = {name: [job for job in self.jobs if stage_of(job) == name] for name in STAGES}
        lines = [self.line(name, jobs) for name, jobs in by_stage.items() if jobs]
        return [*lines, self.line("all", self.jobs)]

    def results(self) -> list[Line]:
        """A line a table and figure, with all that it needs: what several need counts in each."""
        made = {name: job for job in self.jobs for name in _results(job)}
        return [self.line(name, self._behind(job)) for name, job in sorted(made.items())]

    def _behind(self, job: Job) -> list[Job]:
        found, queue = {job.number}, [job]
        while queue:
            for need in queue.pop().needs:
                if need not in found:
                    found.add(need)
                    queue.append(self.job(need))
        return [self.job(number) for number in found]

    def line(self, name: str, jobs: Sequence[Job]) -> Line:
        left = [job for job in jobs if not job.is_done]
        amounts = [self.amounts[job.number] for job in jobs]
        bases = [self.times[job.number].basis for job in jobs if not job.makes_nothing]
        return Line(
            name,
            len(jobs),
            len(jobs) - len(left),
            *(sum(getattr(one, key) for one in amounts) for key in ("images", "tokens", "flops")),
            self._hours(jobs, _devices),
            self._hours(jobs, _cores),
            self._hours(left, _devices),
            self._hours(left, _cores),
            sum(one.bytes for one in amounts),
            {basis: bases.count(basis) for basis in dict.fromkeys(bases)},
        )

    def _hours(self, jobs: Iterable[Job], width: Callable[[Job], int]) -> float:
        return sum(self.seconds[job.number] * width(job) for job in jobs) / HOUR


def _devices(job: Job) -> int:
    return job.devices * job.nodes


def _cores(job: Job) -> int:
    return 0 if job.makes_nothing else job.cores * job.nodes


def stage_of(job: Job) -> str:
    """Of ``STAGES``."""
    if job.rule in TRAINING:
        return TRAINING[job.rule]
    if job.phase in DATA_PHASES:
        return "data"
    if job.rule in ANSWERING or (job.phase in MODEL_PHASES and "accelerators" in job.resources):
        return "predict"
    return "score" if job.rule in SCORING else "tables and figures"


def _results(job: Job) -> list[str]:
    """Names of the tables and figures that a job makes: of its outputs under tables/ and figures/."""
    places = [Path(output) for output in job.outputs]
    names = {place.stem for place in places if place.parent.name in ("tables", "figures")}
    return sorted(names)


def make_plan(
    asked: Asked,
    settings: PlanFile,
    overrides: dict[str, Any] | None = None,
    cluster: Cluster | None = None,
    whole: bool = False,
    own: bool = True,
    run_nodes: int | None = None,
) -> Plan:
    """The plan of a command of Snakemake in this folder. ``cluster``: instead of the scale's; ``own``:
    whether a job that ran counts with its own measured time, or with that of the others of its rule;
    ``run_nodes``: of a training run, instead of those that its profile says. Raises GranvitError where
    Snakemake refuses to plan."""
    graph = read_graph(asked)
    if run_nodes:
        graph = replace(graph, jobs=[laid_out(job, run_nodes) for job in graph.jobs])
    cluster = cluster or settings.clusters[asked.scale]
    estimates = Estimates(Scale(asked.scale, overrides), settings)
    amounts = {job.number: _sized(estimates.of(job), job) for job in graph.jobs}
    clock = Clock(graph.jobs, amounts, measured(graph.jobs), settings, own)
    times = {job.number: clock.time(job) for job in graph.jobs}
    cores = cluster.cores_per_node or len(os.sched_getaffinity(0))
    machines = Machines(
        cluster.nodes, cores, cluster.devices_per_node, graph.limits, settings.seconds_between_jobs
    )
    assumed = [*_said_of_times(graph.jobs, times, settings), *estimates.assumed]
    return Plan(asked.scale, tuple(asked.targets), asked.profile, graph.jobs, amounts, times, machines,
                settings, tuple(assumed), whole)  # fmt: skip


def laid_out(job: Job, nodes: int) -> Job:
    """A training on so many nodes, each with as many devices as before; other jobs as they are."""
    if job.rule not in TRAINING:
        return job
    resources = {**job.resources, "nodes": nodes, "accelerators": job.devices * nodes}
    return replace(job, resources=resources)


def _sized(amounts: Amounts, job: Job) -> Amounts:
    """With the bytes on disk of a job that is done."""
    return replace(amounts, bytes=written(job)) if job.is_done else amounts


def _said_of_times(jobs: list[Job], times: Mapping[int, Time], settings: PlanFile) -> list[str]:
    """What the times that nobody measured come from, in words."""
    assumed = [job for job in jobs if times[job.number].basis == ASSUMED]
    trained = [job for job in assumed if job.rule in TRAINING]
    devices, said = settings.devices, []
    if any(job.devices for job in trained):
        share = f"{devices.efficiency:.0%} of {devices.tflops:g} TFLOP/s"
        said.append(f"trainings at {share} of a device ({devices.name})")
    if any(not job.devices for job in trained):
        said.append(f"trainings at {1000 * settings.core_tflops:g} GFLOP/s of a core")
    if len(assumed) > len(trained):
        said.append("seconds of all other jobs that nobody measured (config/plan.yaml)")
    return said
