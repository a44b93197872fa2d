"""How long each job takes: as it was measured, or as other jobs of its rule were, or as the configuration
assumes."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from granvit.config.plan import PlanFile
from granvit.planning.amounts import ANNOTATING, ANSWERING, TRAINING, Amounts
from granvit.planning.jobs import Job

TERA = 1e12
MEASURED, CALIBRATED, ASSUMED = "measured", "calibrated", "assumed"


@dataclass(frozen=True)
class Time:
    """``seconds`` of a job on what it asks for, and ``basis``: measured, calibrated or assumed."""

    seconds: float
    basis: str


def read_seconds(path: str | None) -> float | None:
    """The last measured time of a job, from the file that Snakemake's `benchmark` writes; None without."""
    try:
        with open(path or "", encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file, delimiter="\t")
        return float(last["s"])
    except (OSError, ValueError, KeyError):
        return None


def measured(jobs: Iterable[Job], root: str | Path = ".") -> dict[int, float]:
    """The seconds of those jobs that have run, by their numbers."""
    found = {job.number: read_seconds(str(Path(root) / job.benchmark)) for job in jobs if job.benchmark}
    return {number: seconds for number, seconds in found.items() if seconds is not None}


@dataclass(frozen=True)
class Rate:
    """``start`` seconds, and ``each`` more for one unit of a job's size."""

    start: float
    each: float

    def seconds(self, size: float) -> float:
        return self.start + self.each * size


def fit(sizes: list[float], seconds: list[float]) -> Rate:
    """The rate behind some measured jobs: a start and a slope, neither below 0; from jobs that are about
    equally large the mean alone, in proportion to their size.

    >>> fit([10, 20, 30], [3, 5, 7])
    Rate(start=1.0, each=0.2)
    """
    size, spent = np.array(sizes, float), np.array(seconds, float)
    mean = float(spent.mean())
    if size.max() <= 0:
        return Rate(mean, 0.0)
    proportional = Rate(0.0, float(spent.sum() / size.sum()))
    if size.min() <= 0 or len(size) < 3 or size.max() < 1.5 * size.min():
        return proportional
    slope, start = np.polyfit(size, spent, 1)
    if slope < 0:
        return Rate(mean, 0.0)
    return Rate(round(float(start), 6), round(float(slope), 18)) if start >= 0 else proportional


class Clock:
    """The times of jobs. ``known``: measured seconds by number; ``amounts``: by number; ``own``: whether a
    job's own measured time is taken, or only those of the others of its rule."""

    def __init__(
        self,
        jobs: Iterable[Job],
        amounts: Mapping[int, Amounts],
        known: Mapping[int, float],
        plan: PlanFile,
        own: bool = True,
    ) -> None:
        self._amounts, self._known, self._plan, self._own = amounts, known, plan, own
        self._rates = self._fitted([job for job in jobs if job.number in known])

    def _fitted(self, jobs: list[Job]) -> dict[tuple, Rate]:
        """By rule and layout: another number of devices is another rate. By family, for rules that have not
        run: trainings of one stage tell of another's."""
        groups: dict[tuple, list[Job]] = defaultdict(list)
        for job in jobs:
            for group in _groups(job):
                groups[group].append(job)
        return {
            group: fit(
                [self._amounts[job.number].size for job in of], [self._known[job.number] for job in of]
            )
            for group, of in groups.items()
        }

    def time(self, job: Job) -> Time:
        """Of one job; a target that makes nothing takes none."""
        if job.makes_nothing:
            return Time(0.0, MEASURED)
        if self._own and job.number in self._known:
            return Time(self._known[job.number], MEASURED)
        size = self._amounts[job.number].size
        for group in _groups(job):
            if group in self._rates:
                return Time(self._rates[group].seconds(size), CALIBRATED)
        return Time(self._assumed(job, self._amounts[job.number]), ASSUMED)

    def _assumed(self, job: Job, amounts: Amounts) -> float:
        plan, devices = self._plan, job.devices * job.nodes
        if job.rule in TRAINING:
            each = plan.devices.tflops * plan.devices.efficiency * TERA
            rate = devices * each if devices else job.cores * plan.core_tflops * TERA
            return plan.seconds + amounts.flops / rate
        if job.rule in ANSWERING:
            rate = plan.questions_per_second * devices or plan.questions_per_core_second * job.cores
            return plan.seconds + amounts.images / rate
        name = "caption" if job.rule in ANNOTATING and job.resources.get("questions") else job.rule
        each = plan.seconds_per_image.get(name, 0.0)
        spread = job.cores if job.rule == "annotate_regions" and name != "caption" else 1
        return plan.seconds + each * amounts.images / spread


def _groups(job: Job) -> list[tuple]:
    layout = job.devices * job.nodes, job.cores
    family = [("training", *layout)] if job.rule in TRAINING else []
    family = [("answering", *layout)] if job.rule in ANSWERING else family
    return [(job.rule, *layout), *family]
