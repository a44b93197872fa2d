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
MOST_LANES = 48  # from which on nodes are not told apart
BAND = 2.0  # lanes
LETTER = 0.0058  # of the whole time: what a letter of a bar's name takes
UNITS = ((48 * 3600, 86400, "days"), (2 * 3600, 3600, "hours"), (120, 60, "minutes"))


@dataclass(frozen=True)
class Bar:
    """A job in a row of the chart: ``top`` and ``height`` in lanes."""

    ran: Ran
    top: float
    height: float


@dataclass(frozen=True)
class Row:
    """A node, or a rule: from the lane ``top`` to ``bottom``."""

    name: str
    top: float
    bottom: float


@dataclass(frozen=True)
class Chart:
    """Nodes below each other, and on them jobs in as few lanes as run beside each other; where these are more
    than anybody can tell apart, rules below each other, all equally high."""

    bars: list[Bar]
    rows: list[Row]

    @property
    def height(self) -> float:
        return self.rows[-1].bottom if self.rows else 1.0


def lay_out(plan: Plan) -> Chart:
    """The chart of a plan; a job on several nodes has a bar on each of them, or one below its rule."""
    ran = [one for one in plan.schedule.ran if one.end > one.start]
    by_node = {f"node {n}": [one for one in ran if n in one.nodes] for n in range(plan.machines.nodes)}
    lanes = {name: _lanes(of) for name, of in by_node.items()}
    if sum(max(set(of), default=0) + 1 for of in lanes.values()) <= MOST_LANES:
        return _stack({name: (by_node[name], of) for name, of in lanes.items()}, None)
    by_rule: dict[str, list[Ran]] = {}
    for one in ran:
        by_rule.setdefault(plan.job(one.number).rule, []).append(one)
    return _stack({rule: (of, _lanes(of)) for rule, of in by_rule.items()}, BAND)


def _lanes(ran: Sequence[Ran]) -> list[int]:
    """A lane for each job, in which nothing else is at that time."""
    busy: list[tuple[float, int]] = []  # ends, and lanes
    free: list[int] = []
    found: list[int] = []
    for one in ran:
        while busy and busy[0][0] <= one.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (one.end, lane))
        found.append(lane)
    return found


def _stack(rows: dict[str, tuple[list[Ran], list[int]]], band: float | None) -> Chart:
    """``band``: the height of every row; None: as many lanes as it has."""
    bars, places, top = [], [], 0.0
    for name, (ran, lanes) in rows.items():
        count = max(lanes, default=0) + 1
        each = 1.0 if band is None else band / count
        bars += [Bar(one, top + lane * each, each) for one, lane in zip(ran, lanes, strict=True)]
        places.append(Row(name, top, top + each * count))
        top = places[-1].bottom
    return Chart(bars, places)


def write_charts(plan: Plan, png: str | Path, html: str | Path) -> None:
    """Write both."""
    chart = lay_out(plan)
    _draw(plan, chart, png)
    write_text(html, page(plan, chart))


def _unit(makespan: float) -> tuple[float, str]:
    return next(((by, name) for least, by, name in UNITS if makespan >= least), (1.0, "seconds"))


def _step(whole: float) -> float:
    """Units between two ticks, of which there are at most ten or so."""
    return next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100, 500, 1 << 20) if whole / step <= 12)


def _draw(plan: Plan, chart: Chart, path: str | Path) -> None:
    height = min(max(2.6 + 0.16 * chart.height, 3.4), TALLEST)
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
    for bar in chart.bars:
        job, one = plan.job(bar.ran.number), bar.ran
        held, thick = one.number in chain, bar.height >= 0.5
        edge = "black" if held else "white" if thick else "none"
        axes.broken_barh(
            [(one.start, one.end - one.start)], (bar.top + 0.04 * bar.height, 0.92 * bar.height),
            facecolor=COLOURS[stage_of(job)], edgecolor=edge, linewidth=1.2 if held else 0.2, zorder=2 + held,
        )  # fmt: skip
        name = job.name.partition(" ")[2] or job.rule
        if thick and one.end - one.start >= LETTER * len(name) * whole:
            axes.text(one.start, bar.top + bar.height / 2, f" {name}", color="white", fontsize=6.5,
                      va="center", clip_on=True, zorder=4)  # fmt: skip
    for row in chart.rows[1:]:
        axes.axhline(row.top, color="#9aa3ad", linewidth=0.5, zorder=1)
    axes.set_ylim(chart.height, 0)
    axes.set_yticks([(row.top + row.bottom) / 2 for row in chart.rows], [row.name for row in chart.rows])
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
    left = 12.0 + 6.2 * max(len(row.name) for row in chart.rows) if chart.rows else 60.0
    scale, height = (WIDTH - left - 10) / makespan, chart.height * LANE + 30
    chain = set(plan.schedule.chain())
    parts = [f'<svg width="{WIDTH:.0f}" height="{height:.0f}" role="img" aria-label="Gantt chart">']
    for row in chart.rows:
        y = row.top * LANE
        parts.append(f'<text x="0" y="{y + 11:.0f}" font-size="10">{escape(row.name)}</text>')
        parts.append(f'<line x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d5dae0"/>')
    for bar in chart.bars:
        job, one = plan.job(bar.ran.number), bar.ran
        held = ' class="chain"' if one.number in chain else ""
        took = f"{duration(one.end - one.start)} ({plan.times[one.number].basis})"
        title = escape(f"{job.name}: {took}, from {duration(one.start)}")
        parts.append(
            f'<rect x="{left + one.start * scale:.2f}" y="{bar.top * LANE:.2f}" '
            f'width="{max((one.end - one.start) * scale, 0.3):.2f}" height="{0.9 * bar.height * LANE:.2f}" '
            f'fill="{COLOURS[stage_of(job)]}"{held}><title>{title}</title></rect>'
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
