"""The graph that would run, as Snakemake plans it: no copy of it is kept here, so none can disagree."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from granvit.config.reading import read_yaml
from granvit.errors import GranvitError
from granvit.planning.jobs import Job

HIGHEST = float(1 << 62)  # above every rule's priority
MANY = 1 << 20  # cores and jobs at once: what a job asks for is not cut to this machine


@dataclass(frozen=True)
class Asked:
    """What a command of Snakemake is given. ``targets``: of the scale in force, `all` where there are none;
    ``profile``: a folder of profiles/; ``config``: more ``key=value``; ``configfiles``: beside the profile's.
    """

    scale: str
    targets: Sequence[str] = ()
    profile: str | None = None
    config: Sequence[str] = ()
    configfiles: Sequence[str] = ()
    prioritize: Sequence[str] = ()


@dataclass(frozen=True)
class Graph:
    """``jobs``: in an order in which each stands behind all that it needs; ``limits``: what all jobs at once
    may use of a resource (of a profile: questions at a captioner's server), beside cores and devices."""

    jobs: list[Job]
    limits: dict[str, int] = field(default_factory=dict)


def read_graph(asked: Asked) -> Graph:
    """The jobs behind some targets, finished ones too, from the folder's Snakefile. Raises GranvitError with
    Snakemake's own words where it refuses to plan."""
    try:
        from snakemake import cli
        from snakemake.api import SnakemakeApi
        from snakemake.settings.enums import Quietness
        from snakemake.settings.types import OutputSettings
    except ImportError:
        raise GranvitError("plan: Snakemake is not installed here; `make env` installs it") from None
    if not Path("Snakefile").is_file():
        raise GranvitError(f"{Path.cwd()}: there is no Snakefile here; run `granvit` in the project's folder")
    output = OutputSettings(
        dryrun=True,
        quiet={Quietness.RULES, Quietness.PROGRESS},  # ends when the graph is there, before jobs are listed
        log_level_override=logging.ERROR,
        enable_file_logging=False,
    )
    with redirect_stdout(sys.stderr), SnakemakeApi(output) as api:
        try:
            workflow = _planned(cli, api, _arguments(asked))
        except SystemExit:  # what the parser of the options said is lost with the profiles' names
            raise GranvitError(f"plan: Snakemake refuses `{' '.join(_arguments(asked))}`") from None
        except Exception as error:  # Snakemake's own have no common kind
            raise GranvitError(f"plan: {_words(error)}") from None
        given = {name: resource.value for name, resource in workflow.global_resources.items()}
        limits = {key: value for key, value in given.items() if key[0] != "_" and isinstance(value, int)}
        return Graph(prioritized(_jobs(workflow.dag), asked.prioritize), limits)


def _arguments(asked: Asked) -> list[str]:
    """As they would be typed behind `snakemake`."""
    profile = ["--profile", asked.profile] if asked.profile else []
    files = ["--configfile", *_profiles_own(asked.profile), *asked.configfiles] if asked.configfiles else []
    first = ["--prioritize", *asked.prioritize] if asked.prioritize else []
    config = ["--config", f"scale={asked.scale}", *asked.config]
    return ["-n", "--cores", str(MANY), *profile, *files, *first, *config, "--", *(asked.targets or ["all"])]


def _profiles_own(profile: str | None) -> list[str]:
    """The configuration files of a profile, which others on a command line would replace."""
    file = Path(profile or "", "profile.yaml")
    named = read_yaml(file).get("configfile", []) if profile and file.is_file() else []
    return [named] if isinstance(named, str) else named


def _planned(cli: Any, api: Any, arguments: list[str]) -> Any:
    """Snakemake's workflow after a dry-run of such a command: its ``dag`` is the graph."""
    from snakemake.settings import types as settings

    with redirect_stderr(io.StringIO()):  # which profiles it reads
        _, args = cli.parse_args(arguments)
    workflow_api = api.workflow(
        resource_settings=settings.ResourceSettings(
            cores=MANY,
            nodes=MANY,
            resources=args.resources,
            overwrite_threads=args.set_threads,
            overwrite_resources=args.set_resources,
            overwrite_resource_scopes=args.set_resource_scopes,
            default_resources=args.default_resources,
        ),
        config_settings=settings.ConfigSettings(
            config=cli.parse_config(args.config), configfiles=args.configfile, config_args=args.config
        ),
    )
    dag_api = workflow_api.dag(
        settings.DAGSettings(
            targets=args.targets,
            force_incomplete=args.rerun_incomplete,
            rerun_triggers=args.rerun_triggers,
        )
    )
    dag_api.execute_workflow(
        executor="dryrun",
        execution_settings=settings.ExecutionSettings(lock=False, standalone=True),
        scheduling_settings=settings.SchedulingSettings(prioritytargets=args.prioritize, scheduler="greedy"),
    )
    return workflow_api._workflow


def _words(error: Exception) -> str:
    """The first line of what an exception of Snakemake says."""
    if type(error).__name__ == "MissingRuleException":
        asked = str(error).removeprefix("No rule to produce ").split(" ")[0]
        return f"no rule makes '{asked}'; `snakemake --list-target-rules` lists what can be asked for"
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)


def _jobs(dag: Any) -> list[Job]:
    """Snakemake's jobs as this room's, without those targets that only name others."""
    numbers = {job: number for number, job in enumerate(dag.jobs)}
    made = {number: _job(dag, job, number, numbers) for job, number in numbers.items()}
    return in_order(made.values())


def _job(dag: Any, job: Any, number: int, numbers: Mapping[Any, int]) -> Job:
    resources = {key: value for key, value in job.resources.items() if isinstance(value, (int, str))}
    return Job(
        number=number,
        rule=job.rule.name,
        wildcards=dict(job.wildcards_dict),
        needs=tuple(sorted(numbers[other] for other in dag.dependencies[job])),
        priority=float(job.rule.expand_priority(job.wildcards_dict, job.input, job.attempt)),
        threads=job.threads,
        resources=resources,
        is_done=not dag.needrun(job),
        makes_nothing=job.is_norun,
        outputs=tuple(map(str, job.output)),
        inputs=tuple(map(str, job.input)),
        benchmark=str(job.benchmark) if job.benchmark else None,
        phase=Path(str(job.rule.snakefile)).stem,
    )


def prioritized(jobs: Iterable[Job], first: Collection[str]) -> list[Job]:
    """The jobs that make some files or are of some rules, and all that these need, before any others: what
    Snakemake's `--prioritize` does, here with finished jobs too."""
    known = {job.number: job for job in jobs}
    queue = [
        job.number for job in known.values() if job.rule in first or not set(first).isdisjoint(job.outputs)
    ]
    while queue:
        job = known[queue.pop()]
        if job.priority < HIGHEST:
            known[job.number] = replace(job, priority=HIGHEST)
            queue += job.needs
    return list(known.values())


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each behind all that it needs."""
    known = {job.number: job for job in jobs}
    order = TopologicalSorter({number: job.needs for number, job in known.items()}).static_order()
    return [known[number] for number in order]
