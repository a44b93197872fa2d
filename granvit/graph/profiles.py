"""What a cluster's profile (profiles/*/profile.yaml) has to hold: an option on the command line replaces the
profile's option of that name as a whole, which Snakemake does without a word."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from granvit.config.compute import Compute
from granvit.errors import GranvitError

# Options of Snakemake with which it starts no job
LOOKS = re.compile(
    r"-[A-Za-z]*n[A-Za-z]*$|-[SD]$|--(dry-?run|dag|d3dag|rulegraph|filegraph|summary|detailed-summary|report|lint"
    r"|list[-a-z]*|unlock)(=|$)"
)


def require_command(workflow: Any, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise GranvitError where a command of Snakemake drops what its profile has to hold, or makes another
    scale than `dvc repro` stores. ``workflow``: Snakemake's own, with the settings in force."""
    require_one_scale(workflow.config["scale"], environment)
    require_report_target(arguments)
    settings, resources = workflow.config_settings, workflow.resource_settings
    there = {
        "config": settings.config,
        "configfile": [str(file.absolute()) for file in settings.configfiles],
        "default-resources": resources.default_resources,
        "resources": resources.resources,
        "set-resources": [
            f"{rule}:{key}" for rule, given in resources.overwrite_resources.items() for key in given
        ],
    }
    for name in profiles_named(arguments, environment):
        require_whole(name, there)


def require_report_target(arguments: Sequence[str]) -> None:
    """Raise GranvitError where a report of Snakemake is asked for and nothing else: without a target it ends
    in a traceback, as it takes no default one there.

    >>> require_report_target(["--report", "report.html", "results/table1.csv"])
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    if words[:1] == ["--report"] and len(words) <= 2:
        raise GranvitError(
            "--report: name what has been made, which the report then shows: "
            "`snakemake --report report.html -- results/table1.csv`"
        )


def only_looks(arguments: Sequence[str]) -> bool:
    """Whether a command of Snakemake starts no job: a plan, a graph, a summary, a report.

    >>> only_looks(["-np", "results/table1.csv"]), only_looks(["--cores", "2", "results/table1.csv"])
    (True, False)
    """
    return any(LOOKS.match(argument) for argument in arguments)


def profiles_named(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The profiles that a command of Snakemake names, from its arguments or $SNAKEMAKE_PROFILE.

    >>> profiles_named(["--profile", "npu", "-n"], {})
    ['npu']
    """
    names: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word == "--profile":
            names += [next(words, "")]
        elif word.startswith("--profile="):
            names += [word.partition("=")[2]]
    return [name for name in names or [environment.get("SNAKEMAKE_PROFILE", "")] if name not in ("", "none")]


def require_whole(name: str, there: Mapping[str, Collection[str]], root: str | Path = ".") -> None:
    """Raise GranvitError where a setting of the profile ``name`` is no longer among those of the run.

    ``there``: the names of the settings in force by option: of `config`, `resources` and `default-resources`
    their keys, of `set-resources` `rule:key`, of `configfile` absolute paths. A profile that is elsewhere
    than in ``root`` is its owner's own affair.
    """
    file = Path(root) / name / "profile.yaml"
    if not file.is_file():
        return
    profile = yaml.safe_load(file.read_text(encoding="utf-8"))
    for option in there.keys() & profile.keys():
        lost = [key for key in _keys(option, profile[option], Path(root)) if key not in there[option]]
        if lost:
            raise GranvitError(
                f"--{option} on the command line replaces all that {file} says there, so {lost[0]!r} is gone"
                f"{f' and {len(lost) - 1} more' if lost[1:] else ''}; "
                f"{_remedy(option, lost, file)}"
            )


def _keys(option: str, value: Any, root: Path) -> Iterator[str]:
    """The names of the settings that an option of a profile holds."""
    if option == "configfile":
        yield from (str((root / path).absolute()) for path in ([value] if isinstance(value, str) else value))
    elif option == "set-resources":
        yield from (f"{rule}:{key}" for rule, resources in value.items() for key in resources)
    elif isinstance(value, dict):
        yield from value
    else:
        yield from (entry.partition("=")[0] for entry in value)


def _remedy(option: str, lost: list[str], file: Path) -> str:
    if option == "config":
        return f"say it again, as in `--config scale=paper {'' if 'scale' in lost else '... '}seed=1`"
    if option == "configfile":
        return f"name both: `--configfile {Path(lost[0]).relative_to(Path.cwd())} yours.yaml`"
    return f"write it into {file} instead"


def require_one_scale(scale: str, environment: Mapping[str, str], root: str | Path = ".") -> None:
    """Raise GranvitError where `dvc repro` would store another scale than the one that is made: DVC's outs
    follow the scale that config/config.yaml names."""
    stored = yaml.safe_load((Path(root) / "config/config.yaml").read_text(encoding="utf-8"))["scale"]
    if "DVC_STAGE" in environment and scale != stored:
        raise GranvitError(
            f"dvc: this run makes results/{scale}, but DVC stores results/{stored}, the scale that "
            f"config/config.yaml names; set `scale: {scale}` there"
        )


def ask_slurm(jobs: Iterable[Any], layout: Compute, training: Collection[str]) -> None:
    """Let SLURM refuse in seconds, and in one line, what it would refuse job by job. ``jobs``: Snakemake's;
    ``training``: rules whose jobs are laid out on devices and nodes as ``layout`` says."""
    first = {job.rule.name: job.resources for job in jobs}
    for rule in first.keys() & set(training):
        require_layout(rule, first[rule], max(layout.train_devices, 1), layout.train_nodes)
    require_slurm({rule: sbatch_arguments(asked) for rule, asked in first.items()})


def require_slurm(requests: Mapping[str, Sequence[str]]) -> None:
    """Raise GranvitError where SLURM is not there, still has jobs of this folder, or would refuse one.

    ``requests``: a rule's name -> arguments of sbatch that say what one of its jobs asks for; each is tried
    without submitting anything.
    """
    if shutil.which("sbatch") is None:
        raise GranvitError(
            "profile: SLURM's `sbatch` is not on PATH; run this command on a login node of the cluster, or "
            "without --profile on this machine"
        )
    if left := _living_jobs(Path.cwd()):
        raise GranvitError(
            f"profile: jobs of an earlier run in this checkout are still in SLURM's queue "
            f"({', '.join(left)}); wait for them, or `scancel {' '.join(left)}`, and start this command again"
        )
    for rule, arguments in requests.items():
        command = ["sbatch", "--test-only", *arguments, "--wrap", "true"]
        try:
            tried = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            raise GranvitError(
                "profile: SLURM does not answer within a minute; try `sinfo`, and this command again later"
            ) from None
        if tried.returncode:
            said = " ".join(line.partition("error: ")[2] or line for line in tried.stderr.splitlines())
            raise GranvitError(
                f"profile: SLURM would refuse the jobs of {rule}: {said}; they ask for "
                f"`{' '.join(arguments)}`, which profile.yaml says: change it there (docs/clusters.md)"
            )


def require_layout(rule: str, resources: Mapping[str, Any], devices: int, nodes: int) -> None:
    """Raise GranvitError where a training job asks SLURM for other nodes or devices than its run is laid out
    on: devices would idle, or ranks wait for nodes that never come."""
    gres = str(resources.get("gres") or "").rpartition(":")[2]
    asked = {"compute.train_nodes": (resources.get("nodes", 1), nodes)}
    if gres.isdigit():
        asked["compute.train_devices"] = (int(gres), devices)
    for key, (found, laid_out) in asked.items():
        if found != laid_out:
            what = "nodes" if key == "compute.train_nodes" else "gres"
            raise GranvitError(
                f"profile: {rule} asks for {what} {found} in profile.yaml, but {key} is {laid_out} in "
                "compute.yaml; make them the same (docs/clusters.md)"
            )


def _living_jobs(folder: Path) -> list[str]:
    """Ids of this user's jobs in the queue that were submitted from a folder."""
    command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format=%i|%Z"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [job for job, _, where in (line.partition("|") for line in lines) if where == str(folder)]


def sbatch_arguments(resources: Mapping[str, Any]) -> list[str]:
    """What of a job's resources sbatch can be asked about beforehand.

    >>> sbatch_arguments({"gres": "npu:8", "nodes": 1, "mem_mb": 1000})
    ['--nodes=1', '--gres=npu:8', '--mem=1000']
    """
    options = {
        "slurm_partition": "partition", "slurm_account": "account", "nodes": "nodes", "tasks": "ntasks",
        "gres": "gres", "gpu": "gpus", "cpus_per_task": "cpus-per-task", "mem_mb": "mem", "runtime": "time",
        "constraint": "constraint", "qos": "qos",
    }  # fmt: skip
    return [f"--{option}={resources[key]}" for key, option in options.items() if resources.get(key)]
