"""The graph played out in simulated time on nodes with cores and devices (simpy).

Jobs start as Snakemake starts them: of those that could, the one of highest priority first, on the fullest
node that has room; nothing is kept free for a larger job that waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import simpy

from granvit.errors import GranvitError
from granvit.planning.jobs import Job

Demand = tuple  # cores and devices of a node, nodes, and what is limited over all jobs


@dataclass(frozen=True)
class Machines:
    """``nodes`` alike, each with ``cores`` and ``devices``; ``limits``: what all jobs at once may use of a
    resource; ``between``: seconds from a job's end to a start in its place."""

    nodes: int
    cores: int
    devices: int
    limits: Mapping[str, int] = field(default_factory=dict)
    between: float = 0.0


@dataclass(frozen=True)
class Ran:
    """A job in simulated time: ``start`` and ``end`` in seconds, the numbers of its ``nodes``; ``after``: the
    job that it waited for last, a parent or one that held its place, None at the beginning."""

    number: int
    start: float
    end: float
    nodes: tuple[int, ...]
    after: int | None


@dataclass(frozen=True)
class Schedule:
    """``ran``: in the order of their starts; ``makespan``: seconds; ``core_seconds``, ``device_seconds``:
    that jobs held."""

    machines: Machines
    ran: list[Ran]
    makespan: float
    core_seconds: float
    device_seconds: float

    @property
    def core_use(self) -> float:
        """The share of all cores that jobs held, over the whole time."""
        return self.core_seconds / (self.makespan * self.machines.nodes * self.machines.cores or 1)

    @property
    def device_use(self) -> float:
        """The same of devices."""
        return self.device_seconds / (self.makespan * self.machines.nodes * self.machines.devices or 1)

    def chain(self) -> list[int]:
        """The jobs that the last one to end waited for, one behind the other, it among them: what holds
        everything up on these machines."""
        if not self.ran:
            return []
        known = {one.number: one for one in self.ran}
        found = [max(self.ran, key=lambda one: one.end).number]
        while known[found[-1]].after is not None:
            found.append(known[found[-1]].after)
        return found[::-1]


class _Node:
    def __init__(self, number: int, env: simpy.Environment, machines: Machines) -> None:
        self.number = number
        self.cores = simpy.Container(env, machines.cores, machines.cores)
        self.devices = simpy.Container(env, machines.devices, machines.devices) if machines.devices else None

    def has(self, cores: int, devices: int) -> bool:
        return self.cores.level >= cores and (not devices or self.devices.level >= devices)

    def take(self, cores: int, devices: int) -> None:
        """Never waits: asked only where there is room."""
        if cores:
            self.cores.get(cores)
        if devices:
            self.devices.get(devices)

    def give(self, cores: int, devices: int) -> None:
        if cores:
            self.cores.put(cores)
        if devices:
            self.devices.put(devices)


class _Play:
    """One run of the graph. Jobs that ask for the same wait in one heap, so that a job without room is not
    looked at again for each of its kind."""

    def __init__(self, jobs: Sequence[Job], seconds: Mapping[int, float], machines: Machines) -> None:
        self.env = simpy.Environment()
        self.machines, self.seconds = machines, seconds
        self.nodes = [_Node(number, self.env, machines) for number in range(machines.nodes)]
        self.free = dict(machines.limits)
        self.jobs = {job.number: job for job in jobs}
        self.demands = {job.number: demand_of(job, machines) for job in jobs}
        self.missing = {job.number: {need for need in job.needs if need in self.jobs} for job in jobs}
        self.followers: dict[int, list[int]] = {number: [] for number in self.jobs}
        for number, needs in self.missing.items():
            for need in needs:
                self.followers[need].append(number)
        self.order = {job.number: place for place, job in enumerate(jobs)}
        self.waiting: dict[Demand, list[tuple]] = {}
        self.ready: dict[int, float] = {}
        self.last: dict[int, int | None] = {}
        self.ran: list[Ran] = []

    def run(self) -> list[Ran]:
        for number, needs in self.missing.items():
            if not needs:
                self._wait(number, None)
        self._start_all(None)
        self.env.run()
        return sorted(self.ran, key=lambda one: (one.start, self.order[one.number]))

    def _wait(self, number: int, parent: int | None) -> None:
        self.ready[number], self.last[number] = self.env.now, parent
        heap = self.waiting.setdefault(self.demands[number], [])
        heapq.heappush(heap, (-self.jobs[number].priority, self.order[number], number))

    def _start_all(self, ended: int | None) -> None:
        """Start whatever has room. ``ended``: the job that made it."""
        while True:
            heads = sorted((heap[0], demand) for demand, heap in self.waiting.items() if heap)
            for (_, _, number), demand in heads:
                place = self._place(demand)
                if place is not None:
                    heapq.heappop(self.waiting[demand])
                    after = self.last[number] if self.ready[number] == self.env.now else ended
                    self.env.process(self._job(number, demand, place, after))
                    break
            else:
                return

    def _place(self, demand: Demand) -> list[_Node] | None:
        """The fullest nodes with room for it, and takes it; None without."""
        cores, devices, nodes, limited = demand
        if any(self.free[name] < amount for name, amount in limited):
            return None
        room = [node for node in self.nodes if node.has(cores, devices)]
        if len(room) < nodes:
            return None
        place = sorted(room, key=_emptiness)[:nodes]
        for node in place:
            node.take(cores, devices)
        for name, amount in limited:
            self.free[name] -= amount
        return place

    def _job(self, number: int, demand: Demand, place: list[_Node], after: int | None) -> Iterator[Any]:
        cores, devices, _, limited = demand
        start, seconds = self.env.now, self.seconds[number]
        yield self.env.timeout(seconds)
        end = self.env.now
        if seconds:
            yield self.env.timeout(self.machines.between)
        self.ran.append(Ran(number, start, end, tuple(node.number for node in place), after))
        for node in place:
            node.give(cores, devices)
        for name, amount in limited:
            self.free[name] += amount
        for follower in self.followers[number]:
            self.missing[follower].discard(number)
            if not self.missing[follower]:
                self._wait(follower, number)
        self._start_all(number)


def _emptiness(node: _Node) -> tuple:
    return node.devices.level if node.devices else 0, node.cores.level, node.number


def demand_of(job: Job, machines: Machines) -> Demand:
    """What a job takes of each of its nodes, how many these are, and what it takes of limited resources. More
    cores than a node has are cut to these, as Snakemake does. Raises GranvitError for devices or nodes that
    there are not: the job would wait for ever."""
    if job.makes_nothing:
        return 0, 0, 1, ()
    if job.devices > machines.devices or job.nodes > machines.nodes:
        raise GranvitError(
            f"plan: {job.name} asks for {job.devices} devices on {job.nodes} nodes, and there are "
            f"{machines.devices} on each of {machines.nodes}; give more with --nodes and --devices-per-node"
        )
    used = ((name, int(job.resources.get(name, 0) or 0)) for name in machines.limits)
    limited = tuple((name, min(amount, machines.limits[name])) for name, amount in used if amount)
    return min(job.cores, machines.cores), job.devices, job.nodes, limited


def play(jobs: Sequence[Job], seconds: Mapping[int, float], machines: Machines) -> Schedule:
    """The jobs on the machines, each taking its ``seconds`` (by number). What a job needs that is not among
    ``jobs`` is there already. Raises GranvitError for a job that fits on no machine."""
    ran = _Play(jobs, seconds, machines).run()
    held = {job.number: demand_of(job, machines) for job in jobs}
    spent = {number: seconds[number] * demand[2] for number, demand in held.items()}
    return Schedule(
        machines,
        ran,
        max((one.end for one in ran), default=0.0),
        sum(spent[number] * demand[0] for number, demand in held.items()),
        sum(spent[number] * demand[1] for number, demand in held.items()),
    )


def critical_path(jobs: Sequence[Job], seconds: Mapping[int, float]) -> list[int]:
    """The longest chain of jobs that need each other: no number of nodes is faster. ``jobs``: each behind all
    that it needs."""
    length: dict[int, float] = {}
    before: dict[int, int | None] = {}
    for job in jobs:
        needs = [need for need in job.needs if need in length]
        before[job.number] = max(needs, key=length.__getitem__, default=None)
        length[job.number] = seconds[job.number] + (length[before[job.number]] if needs else 0.0)
    if not length:
        return []
    path = [max(length, key=length.__getitem__)]
    while before[path[-1]] is not None:
        path.append(before[path[-1]])
    path = path[::-1]
    known = {job.number: job for job in jobs}
    assert all(first in known[second].needs for first, second in pairwise(path))
    return path
