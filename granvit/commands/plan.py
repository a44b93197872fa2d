"""``granvit plan``: what a command of Snakemake would take, before it is given (docs/plan.md)."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.errors import GranvitError

if TYPE_CHECKING:
    from granvit.config.plan import Cluster, PlanFile


def add_commands(groups: Any) -> None:
    """Add the command `plan` to the command line."""
    command = groups.add_parser(
        "plan", help="jobs, images, FLOPs, device-hours and disk of targets, before anything runs",
        epilog="example: granvit plan --scale paper --target results/table1.csv --nodes 16",
    )  # fmt: skip
    command.add_argument("--scale", help="smoke | mini | small | paper (default: that of config/config.yaml)")
    command.add_argument("--target", nargs="+", default=[], help="what Snakemake is asked for (all)")
    command.add_argument("--profile", help="whose resources the jobs ask for; none: the rules' own")
    command.add_argument("--prioritize", nargs="+", default=[], help="as for Snakemake: what goes first")
    command.add_argument("--config", nargs="+", default=[], help="settings, as for Snakemake: key=value")
    command.add_argument("--nodes", type=int, help="of the cluster that it is played out on")
    command.add_argument("--devices-per-node", type=int)
    command.add_argument("--cores-per-node", type=int)
    command.add_argument("--run-nodes", type=int, help="of each training run (the profile's)")
    command.add_argument("--device", help="of config/plan.yaml, by its name (the scale's): A100")
    command.add_argument("--device-tflops", type=float, help="nominal rate of a device, TFLOP/s")
    command.add_argument("--efficiency", type=float, help="share of it that training gets, above 0, up to 1")
    command.add_argument("--watts", type=float, help="of one busy device: adds its energy")
    command.add_argument("--price", type=float, help="of a device-hour, in your currency: adds the cost")
    command.add_argument("--whole", action="store_true", help="play out finished jobs too")
    command.add_argument("--out", metavar="FOLDER", help="write plan.csv, .md, .png and .html there")
    command.add_argument("--wfformat", metavar="FILE", help="write it for other simulators, as JSON")
    command.add_argument("--json", action="store_true", help="print JSON instead")
    command.set_defaults(run=run_plan)


def run_plan(arguments: argparse.Namespace) -> int:
    """Print the plan, and write what is asked for. Raises GranvitError for an unknown scale or target and for
    a number out of range."""
    settings = _settings(arguments)
    from granvit.planning import pages, wfformat
    from granvit.planning.gantt import write_charts
    from granvit.planning.graph import Asked
    from granvit.planning.plan import make_plan

    scale = _scale(arguments)
    profile = settings.profiles.get(scale) if arguments.profile is None else arguments.profile
    asked = Asked(
        scale,
        tuple(arguments.target),
        None if profile == "none" else profile,
        tuple(arguments.config),
        prioritize=tuple(arguments.prioritize),
    )
    with redirect_stdout(sys.stderr):
        plan = make_plan(
            asked,
            settings,
            cluster=_cluster(arguments, settings, scale),
            whole=arguments.whole,
            run_nodes=arguments.run_nodes,
        )
    if arguments.out:
        folder = Path(arguments.out)
        folder.mkdir(parents=True, exist_ok=True)
        pages.write(plan, folder / "plan.csv", folder / "plan.md")
        write_charts(plan, folder / "plan.png", folder / "plan.html")
    if arguments.wfformat:
        wfformat.write(plan, arguments.wfformat)
    print(json.dumps(pages.as_json(plan), indent=2) if arguments.json else pages.text(plan), end="")
    return 0


def _scale(arguments: argparse.Namespace) -> str:
    """Raises GranvitError for an unknown scale, and outside the project's folder."""
    from granvit.config.loading import CONFIG_FILE, SCALES
    from granvit.config.reading import read_yaml

    if not Path(CONFIG_FILE).is_file():
        raise GranvitError(
            f"{Path.cwd()}: there is no {CONFIG_FILE} here; run `granvit` in the project's folder"
        )
    scale = arguments.scale or read_yaml(CONFIG_FILE)["scale"]
    if scale not in SCALES:
        raise GranvitError(f"--scale: '{scale}' is not a scale; use one of {', '.join(SCALES)}")
    return scale


def _settings(arguments: argparse.Namespace) -> PlanFile:
    """config/plan.yaml below the options of the command line."""
    from granvit.config.plan import load_plan

    scale = _scale(arguments)
    for name, least in {"nodes": 1, "devices_per_node": 0, "cores_per_node": 1, "run_nodes": 1}.items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise GranvitError(f"--{name.replace('_', '-')} is {value}; expected {least} or more")
    for name in ("device_tflops", "efficiency", "watts", "price"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise GranvitError(f"--{name.replace('_', '-')} is {value:g}; expected a number above 0")
    if arguments.efficiency is not None and arguments.efficiency > 1:
        raise GranvitError(f"--efficiency is {arguments.efficiency:g}; expected a share, at most 1")
    plan = load_plan().at(scale, arguments.device)
    names = {"device_tflops": "tflops", "efficiency": "efficiency", "watts": "watts", "price": "price"}
    given = {key: value for name, key in names.items() if (value := getattr(arguments, name)) is not None}
    return plan.model_copy(update={"devices": plan.devices.model_copy(update=given)})


def _cluster(arguments: argparse.Namespace, settings: PlanFile, scale: str) -> Cluster:
    names = ("nodes", "devices_per_node", "cores_per_node")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return settings.clusters[scale].model_copy(update=given)
