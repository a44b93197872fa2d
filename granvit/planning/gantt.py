"""The chart of a plan that was played out: which job is on which node when, as PNG and as one HTML page."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MultipleLocator

from granvit.files import replacing, write_text
from granvit.planning.pages import HEADER, cells, duration, said
from granvit.planning.plan import STAGES, Plan, stage_of
from granvit.planning.simulate import Ran
from granvit.reporting.lettering import families

COLOURS = dict(
    zip(
        STAGES,
        ("#5b6570", "#9a5b00", "#1f5fa8", "#1b7f4b", "#4b4f00", "#c8102e", "#7b2fa0", "#00707c", "#5d3a2e"),
        strict=True,
    )
)
WIDTH, LANE = 1180.0, 14.0  # px of the page's chart, and of a lane
TALLEST = 9.0  # inches
LETTER = 0.0058  # of the whole time: what a letter of a bar's name takes
UNITS = ((48 * 3600, 86400, "days"), (2 * 3600, 3600, "hours"), (120, 60, "minutes"))


@dataclass(frozen=True)
class Bar:
    """A job on one of its nodes: ``lane``, counted over all nodes, in which nothing else is at that time."""

    ran: Ran
    node: int
    lane: int


@dataclass(frozen=True)
class Chart:
    """``bars``; ``first``: the first lane of each node, and behind the last one their number."""

    bars: list[Bar]
    first: list[int]


def lay_out(ran: Sequence[Ran], nodes: int) -> Chart:
    """Lanes for jobs, as few a node as have to run beside each other; a job on several nodes has a bar on
    each."""
    bars, first = [], [0]
    for node in range(nodes):
        busy: list[tuple[float, int]] = []  # ends, and lanes
        free: list[int] = []
        lanes = 0
        for one in (one for one in ran if node in one.nodes):
            while busy and busy[0][0] <= one.start:
                heapq.heappush(free, heapq.heappop(busy)[1])
            if not free:
                heapq.heappush(free, lanes)
                lanes += 1
            lane = heapq.heappop(free)
            heapq.heappush(busy, (one.end, lane))
            bars.append(Bar(one, node, first[-1] + lane))
        first.append(first[-1] + max(lanes, 1))
    return Chart(bars, first)


def write_charts(plan: Plan, png: str | Path, html: str | Path) -> None:
    """Write both."""
    chart = lay_out([one for one in plan.schedule.ran if one.end > one.start], plan.machines.nodes)
    _draw(plan, chart, png)
    write_text(html, page(plan, chart))


def _unit(makespan: float) -> tuple[float, str]:
    return next(((by, name) for least, by, name in UNITS if makespan >= least), (1.0, "seconds"))


def _step(whole: float) -> float:
    """Units between two ticks, of which there are at most ten or so."""
    return next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100, 500, 1 << 20) if whole / step <= 12)


def _draw(plan: Plan, chart: Chart, path: str | Path) -> None:
    height = min(max(2.6 + 0.16 * chart.first[-1], 3.4), TALLEST)
    with rc_context({"font.family": families(), "font.size": 8}):
        figure = Figure(figsize=(12, height))
        FigureCanvasAgg(figure)
        top, bottom = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": [max(height - 1.6, 1.6), 1.0], "hspace": 0.06}
        )
        _bars(plan, chart, top)
        _load(plan, bottom)
        by, name = _unit(plan.schedule.makespan)
        bottom.set_xlabel(f"simulated {name}")
        bottom.xaxis.set_major_locator(MultipleLocator(by * _step(plan.schedule.makespan / by)))
        bottom.xaxis.set_major_formatter(lambda value, _: f"{value / by:g}")
        bottom.set_xlim(0, plan.schedule.makespan or 1)
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight")


def _bars(plan: Plan, chart: Chart, axes: Axes) -> None:
    chain, whole = set(plan.schedule.chain()), plan.schedule.makespan
    for stage, colour in COLOURS.items():
        of = [bar for bar in chart.bars if stage_of(plan.job(bar.ran.number)) == stage]
        for bar in of:
            held = bar.ran.number in chain
            axes.broken_barh(
                [(bar.ran.start, bar.ran.end - bar.ran.start)], (bar.lane + 0.08, 0.84), facecolor=colour,
                edgecolor="black" if held else "white", linewidth=1.4 if held else 0.2, zorder=2 + held,
            )  # fmt: skip
            name = plan.job(bar.ran.number).name.partition(" ")[2] or plan.job(bar.ran.number).rule
            if bar.ran.end - bar.ran.start >= LETTER * len(name) * whole and chart.first[-1] <= 60:
                axes.text(bar.ran.start, bar.lane + 0.5, f" {name}", color="white", fontsize=6.5,
                          va="center", clip_on=True, zorder=4)  # fmt: skip
    for lane in chart.first[1:-1]:
        axes.axhline(lane, color="#9aa3ad", linewidth=0.5, zorder=1)
    axes.set_ylim(chart.first[-1], 0)
    middles = [(start + end) / 2 for start, end in zip(chart.first, chart.first[1:], strict=False)]
    axes.set_yticks(middles, [f"node {number}" for number in range(len(middles))])
    what = ", ".join(plan.targets) or "all"
    axes.set_title(
        f"{what} at {plan.scale} scale, played out: {duration(whole)}; outlined: the chain that the last job "
        "waited for", loc="left", fontsize=9,
    )  # fmt: skip
    seen = {stage_of(plan.job(bar.ran.number)) for bar in chart.bars}
    handles = [Patch(color=colour, label=stage) for stage, colour in COLOURS.items() if stage in seen]
    if handles:
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.005, 1), frameon=False)


def _load(plan: Plan, axes: Axes) -> None:
    """Shares of cores and devices in use over time."""
    machines = plan.machines
    whole = {"cores": machines.nodes * machines.cores, "devices": machines.nodes * machines.devices}
    for (name, total), colour in zip(whole.items(), ("#5b6570", "#c8102e"), strict=True):
        if not total:
            continue
        steps: dict[float, float] = {0.0: 0.0, plan.schedule.makespan: 0.0}
        for one in plan.schedule.ran:
            job = plan.job(one.number)
            each = min(job.cores, machines.cores) if name == "cores" else job.devices
            used = each * len(one.nodes) / total
            steps[one.start] = steps.get(one.start, 0.0) + used
            steps[one.end] = steps.get(one.end, 0.0) - used
        times, level, levels = sorted(steps), 0.0, []
        for time in times:
            level += steps[time]
            levels.append(100 * level)
        axes.step(times, levels, where="post", color=colour, linewidth=1, label=name)
    axes.set_ylim(0, 105)
    axes.set_ylabel("% in use")
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1), frameon=False)


STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px auto; max-width: 1240px; padding: 0 12px }
table { border-collapse: collapse }
td, th { padding: 2px 10px; border-bottom: 1px solid #d5dae0; text-align: right }
td:first-child, th:first-child, td:last-child { text-align: left }
.wide { overflow-x: auto } rect:hover { opacity: .7 } .chain { stroke: #000; stroke-width: 1.5 }
.key { display: inline-block; width: 11px; height: 11px; margin: 0 4px 0 14px }
""".strip()


def page(plan: Plan, chart: Chart) -> str:
    """One page of HTML that needs nothing else; a bar's name and times show under the pointer."""
    what = escape(f"{', '.join(plan.targets) or 'all'} at {plan.scale} scale")
    seen = {stage_of(plan.job(bar.ran.number)) for bar in chart.bars}
    keys = "".join(
        f'<span class="key" style="background:{colour}"></span>{stage}'
        for stage, colour in COLOURS.items()
        if stage in seen
    )
    notes = "".join(f"<li>{escape(line.strip())}</li>" for line in said(plan))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Plan of {what}</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>Plan of {what}</h1>\n<ul>{notes}</ul>\n"
        f'<p>{keys}</p>\n<div class="wide">{_svg(plan, chart)}</div>\n'
        f'<h2>Stages</h2>\n<div class="wide">{_table(plan)}</div>\n</body></html>\n'
    )


def _svg(plan: Plan, chart: Chart) -> str:
    makespan = plan.schedule.makespan or 1.0
    scale, left = (WIDTH - 70) / makespan, 60.0
    height = chart.first[-1] * LANE + 30
    chain = set(plan.schedule.chain())
    parts = [f'<svg width="{WIDTH:.0f}" height="{height:.0f}" role="img" aria-label="Gantt chart">']
    for node, lane in enumerate(chart.first[:-1]):
        parts.append(f'<text x="0" y="{lane * LANE + 11:.0f}" font-size="10">node {node}</text>')
        line = f'y1="{lane * LANE}" y2="{lane * LANE}" stroke="#d5dae0"/>'
        parts.append(f'<line x1="{left}" x2="{WIDTH}" {line}')
    for bar in chart.bars:
        job, one = plan.job(bar.ran.number), bar.ran
        held = ' class="chain"' if one.number in chain else ""
        title = f"{job.name}: {duration(one.end - one.start)} ({plan.times[one.number].basis}), from " + (
            duration(one.start)
        )
        parts.append(
            f'<rect x="{left + one.start * scale:.2f}" y="{bar.lane * LANE + 1:.0f}" '
            f'width="{max((one.end - one.start) * scale, 0.3):.2f}" height="{LANE - 2:.0f}" '
            f'fill="{COLOURS[stage_of(job)]}"{held}><title>{escape(title)}</title></rect>'
        )
    by, name = _unit(makespan)
    for tick in range(5):
        time = makespan * tick / 4
        anchor = "end" if tick == 4 else "start"
        parts.append(
            f'<text x="{left + time * scale:.1f}" y="{height - 8:.0f}" font-size="10" text-anchor="{anchor}">'
            f"{time / by:.3g} {name}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def _table(plan: Plan) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    rows = []
    for line in plan.stages():
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(line)) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
