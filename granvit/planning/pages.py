"""A plan to read: lines of text, CSV, Markdown, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from granvit.files import write_csv, write_text
from granvit.planning.plan import HOUR, Line, Plan
from granvit.planning.simulate import Schedule
from granvit.reporting import markdown

COLUMNS = ["part", "name", "jobs", "done", "images", "tokens", "flops", "device_hours", "core_hours",
           "device_hours_left", "core_hours_left", "bytes", "times"]  # fmt: skip
HEADER = ["", "Jobs", "Done", "Images", "Tokens", "FLOPs", "Device-hours", "Core-hours", "Disk", "Times"]
LETTERS = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


def short(value: float) -> str:
    """Three digits and a letter.

    >>> short(3.51e20), short(26_700_000), short(7), short(0)
    ('351 E', '26.7 M', '7', '0')
    """
    for factor, letter in LETTERS:
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """
    >>> duration(97.47 * 3600), duration(61), duration(8.84)
    ('97.5 h', '1.0 min', '8.8 s')
    """
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def text(plan: Plan) -> str:
    """The whole plan for a terminal."""
    done = sum(job.is_done for job in plan.jobs)
    what = ", ".join(plan.targets) or "all"
    lines = [f"{plan.scale} scale, {what}: {len(plan.jobs)} jobs, {done} of them done"]
    lines += ["", *_columns([HEADER, *map(cells, plan.stages())])]
    if results := plan.results():
        lines += ["", "With all that each needs:", *_columns([HEADER, *map(cells, results)])]
    return "\n".join([*lines, "", *said(plan)]) + "\n"


def said(plan: Plan) -> list[str]:
    """What playing it out says, and what was assumed: a line each."""
    found = [f"Played out: {_machines(plan.schedule)}"]
    if not plan.played:
        return [*found, "Nothing to be done."]
    schedule, doubled, hold = plan.schedule, plan.doubled, plan.holdup
    faster = schedule.makespan / doubled.makespan if doubled.makespan else 1.0
    least = duration(plan.critical_seconds)
    found += [
        f"  {duration(schedule.makespan)}; {_use(schedule)}",
        f"  twice the nodes: {duration(doubled.makespan)} ({faster:.2f} x as fast)",
        *([f"  without that limit: {duration(plan.unlimited.makespan)}"] if plan.machines.limits else []),
        f"  no number of nodes is faster than {least}: {_path(plan, plan.critical)}",
        f"  held up most by {hold.name}: {duration(plan.seconds[hold.number])} of {_path(plan)}",
    ]
    found += [f"  {name}: {amount}" for name, amount in spent(plan).items()]
    return [*found, *(f"Assumed: {words}" for words in plan.assumed)]


def spent(plan: Plan) -> dict[str, str]:
    """Energy and money, where the settings say what a device takes."""
    devices, busy = plan.settings.devices, plan.schedule.device_seconds / HOUR
    machines = plan.machines
    held = plan.schedule.makespan / HOUR * machines.nodes * machines.devices
    found = {}
    if devices.watts is not None:
        found["energy of busy devices"] = f"{busy * devices.watts / 1000:,.1f} kWh at {devices.watts:g} W"
    if devices.price is not None:
        found["cost"] = (
            f"{busy * devices.price:,.2f} for {busy:,.1f} device-hours at {devices.price:g}; "
            f"{held * devices.price:,.2f} if all devices are held to the end"
        )
    return found


def write(plan: Plan, csv: str | Path, md: str | Path) -> None:
    """Write the plan as CSV, a line a stage, table and figure, and as Markdown."""
    parts = {"stage": plan.stages(), "result": plan.results()}
    write_csv(csv, COLUMNS, [_row(part, line) for part, lines in parts.items() for line in lines])
    blocks = [f"# The plan of {', '.join(plan.targets) or 'all'} at {plan.scale} scale\n"]
    blocks.append(markdown.table(HEADER, [cells(line) for line in parts["stage"]], left=1))
    if parts["result"]:
        blocks.append("## Each table and figure, with all that it needs\n")
        blocks.append(markdown.table(HEADER, [cells(line) for line in parts["result"]], left=1))
    blocks.append("## Played out\n")
    blocks.append("\n".join(f"- {line.strip()}" for line in said(plan)) + "\n")
    write_text(md, "\n".join(blocks))


def as_json(plan: Plan) -> dict[str, Any]:
    """The same for programs. Times in seconds, sizes in bytes."""
    schedule, hold, machines = plan.schedule, plan.holdup, plan.machines
    return {
        "scale": plan.scale,
        "targets": list(plan.targets),
        "stages": [vars(line) for line in plan.stages()],
        "results": [vars(line) for line in plan.results()],
        "machines": {"nodes": machines.nodes, "cores": machines.cores, "devices": machines.devices},
        "makespan": schedule.makespan,
        "makespan_twice_the_nodes": plan.doubled.makespan,
        "core_use": schedule.core_use,
        "device_use": schedule.device_use,
        "critical_path": {"seconds": plan.critical_seconds, "jobs": _names(plan, plan.critical)},
        "chain": _names(plan, schedule.chain()),
        "held_up_by": hold.name if hold else None,
        "spent": spent(plan),
        "assumed": list(plan.assumed),
    }


def _names(plan: Plan, numbers: Sequence[int]) -> list[str]:
    return [plan.job(number).name for number in numbers]


def _path(plan: Plan, numbers: Sequence[int] | None = None, most: int = 5) -> str:
    """The longest jobs of a chain, in its order."""
    chain = plan.schedule.chain() if numbers is None else numbers
    longest = sorted(chain, key=lambda number: -plan.seconds[number])[:most]
    named = [f"{plan.job(n).name} {duration(plan.seconds[n])}" for n in chain if n in longest]
    more = f" (and {len(chain) - len(named)} shorter)" if len(chain) > len(named) else ""
    return " > ".join(named) + more


def _machines(schedule: Schedule) -> str:
    machines = schedule.machines
    devices = f" and {machines.devices} devices" if machines.devices else ""
    limits = "".join(f", at most {value} {name} at once" for name, value in machines.limits.items())
    plural = "s" if machines.nodes > 1 else ""
    return f"{machines.nodes} node{plural} of {machines.cores} cores{devices}{limits}"


def _use(schedule: Schedule) -> str:
    devices = f", devices {schedule.device_use:.0%}" if schedule.machines.devices else ""
    return f"cores {schedule.core_use:.0%} in use{devices}"


def cells(line: Line) -> list[str]:
    """What stands below ``HEADER``."""
    bases = " + ".join(f"{count} {basis}" for basis, count in line.basis.items())
    return [
        line.name,
        str(line.jobs),
        str(line.done),
        *(short(value) for value in (line.images, line.tokens, line.flops)),
        f"{line.device_hours:,.1f}",
        f"{line.core_hours:,.1f}",
        f"{short(line.bytes)}B",
        bases,
    ]


def _row(part: str, line: Line) -> list[Any]:
    numbers = [line.images, line.tokens, line.flops, line.device_hours, line.core_hours]
    numbers += [line.device_hours_left, line.core_hours_left, line.bytes]
    bases = ";".join(f"{basis}={count}" for basis, count in line.basis.items())
    return [part, line.name, line.jobs, line.done, *(f"{value:.6g}" for value in numbers), bases]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
