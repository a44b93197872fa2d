"""Fig. 3: the stages of training, one panel a run, drawn from the recipes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from granvit.reporting.drawing import DPI, GREY, INK, save_figure
from granvit.reporting.lettering import families, wrap

STAGES = {
    "projector": "Projector",
    "stage1": "Stage 1",
    "stage2": "Stage 2",
    "continued": "Continued pretraining",
    "sft": "Fine-tuning (SFT)",
}
TASKS = {
    "global_caption": "Global caption",
    "bbox2caption": "Bbox2Caption",
    "caption2bbox": "Caption2Bbox",
    "instruction": "Instruction",
}
PARTS = {"llm": "LLM", "projector": "Projector", "encoder": "Vision encoder"}  # from top to bottom
LEARNS, FROZEN = ("#fde3d3", "#c8501e", "learns"), ("#dfeaf7", "#2f6db0", "frozen")  # fill, edge, word
TEACHER = ("#f1ecf7", "#6d4a9c", "EMA")
_PANEL, _GAP, _MARGIN = 2.55, 0.2, 0.2  # inches, as all lengths below
_HEIGHT, _BOX = 6.5, 0.62
_ROWS = {"llm": 4.2, "projector": 3.2, "encoder": 2.2}  # lower edges


def pipeline_page(panels: Sequence[Mapping[str, Any]], scale: str) -> Figure:
    """A page of panels as ``granvit.graph.figures.pipeline`` describes them, in their order."""
    width = 2 * _MARGIN + len(panels) * _PANEL + (len(panels) - 1) * _GAP
    figure = Figure(figsize=(width, _HEIGHT), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, _HEIGHT))
    axes.axis("off")
    title = f"Figure 3. What learns in which stage ({scale} scale)"
    _say(axes, _MARGIN, _HEIGHT - 0.15, title, width - 2 * _MARGIN, size=13, weight="bold")
    known = {panel["recipe"] for panel in panels}
    for number, panel in enumerate(panels):
        _draw_panel(axes, _MARGIN + number * (_PANEL + _GAP), panel, known)
    return figure


def draw_pipeline(
    panels: Sequence[Mapping[str, Any]], scale: str, out_png: str | Path, facts: dict[str, Any]
) -> None:
    """Write ``pipeline_page``; equal panels give equal bytes. ``facts``: as of ``save_figure``."""
    save_figure(pipeline_page(panels, scale), out_png, facts)


def number(value: float) -> str:
    """A setting as a person writes it: ``1e-05 -> "1e-5"``, ``8000000 -> "8 M"``, ``7500 -> "7,500"``."""
    if value and value % 1e6 == 0:
        return f"{value / 1e6:g} M"
    if 0 < value < 0.001:
        return f"{value:g}".replace("e-0", "e-")
    return f"{value:,}" if value == int(value) and value >= 1000 else f"{value:g}"


def _draw_panel(axes: Axes, left: float, panel: Mapping[str, Any], known: set[str]) -> None:
    frame = FancyBboxPatch((left, 0.12), _PANEL, _HEIGHT - 0.62, boxstyle="round,pad=0,rounding_size=0.08",
                           facecolor="#fbfbfc", edgecolor="#d3d8de", linewidth=0.8)  # fmt: skip
    axes.add_patch(frame)
    inner = _PANEL - 0.2
    _say(axes, left + 0.1, 5.82, STAGES[panel["stage"]], inner, size=11, weight="bold")
    start = f"from {panel['parent']}" if panel["parent"] else "from the published models"
    _say(axes, left + 0.1, 5.6, panel["recipe"], inner, colour=INK)
    _say(axes, left + 0.1, 5.44, start, inner, colour=GREY)
    teacher = panel["distillation"]
    wide = inner if not teacher else 0.6 * inner
    middle = left + 0.1 + wide / 2
    for part, bottom in _ROWS.items():
        learns = panel["learns"][part]
        look = LEARNS if learns else FROZEN
        words = f"{look[2]}, rate {number(panel['learning_rate'][part])}" if learns else look[2]
        name = panel["models"].get(part, "")
        _box(axes, left + 0.1, bottom, wide if part == "encoder" else inner, look, PARTS[part], name, words)
    for part, above in (("encoder", _ROWS["projector"]), ("projector", _ROWS["llm"])):
        _arrow(axes, (middle, _ROWS[part] + _BOX), (middle, above))
    _arrow(axes, (middle, 1.93), (middle, _ROWS["encoder"]))
    _arrow(axes, (middle, _ROWS["llm"] + _BOX), (middle, 5.0))
    _say(axes, left + 0.1, 5.18, "L_caption: cross-entropy of the answer", inner, colour=INK)
    _say(axes, left + 0.1, 1.9, "image, question", wide, colour=GREY)
    if teacher:
        _draw_teacher(axes, left + 0.1 + wide, inner - wide, teacher)
    _say_lines(axes, left + 0.1, 1.64, _details(panel), inner)


def _draw_teacher(axes: Axes, left: float, width: float, teacher: Mapping[str, Any]) -> None:
    words = f"α = {number(teacher['ema_decay'])}"
    bottom = _ROWS["encoder"]
    _box(axes, left + 0.17, bottom, width - 0.17, TEACHER, "Teacher", "EMA of it", words)
    at = bottom + _BOX / 2
    axes.annotate("", (left, at), (left + 0.17, at), arrowprops={"arrowstyle": "->", "color": TEACHER[1]})
    crop = f"crops of {teacher['crop_size']} px"
    _say(axes, left + 0.17, bottom - 0.03, crop, width - 0.1, size=6.5, colour=GREY)
    _say(axes, left, bottom + _BOX + 0.16, "L_distill", width, size=7.5, colour=TEACHER[1], weight="bold")


def _details(panel: Mapping[str, Any]) -> list[str]:
    teacher = panel["distillation"]
    loss = "L_caption" + (f" + {number(teacher['weight'])} · L_distill" if teacher else "")
    regions = panel["regions"]
    tasks = "Tasks" if panel["tasks"] else "Tasks that the stage allows"
    named = ", ".join(TASKS[task] for task in panel["tasks"] or panel["allowed"])
    lines = [f"Loss: {loss}", f"{tasks}: {named}"]
    if regions == "none":
        lines.append(f"Data: all of {panel['mixture']}")
    else:
        many = "all" if regions == "all" else number(regions)
        lines.append(f"Data: {panel['mixture']}, {many} region pairs")
    epochs = number(panel["epochs"])
    return [*lines, f"{epochs} {'epoch' if epochs == '1' else 'epochs'}, {panel['batch_size']} images a step"]


def _box(
    axes: Axes,
    left: float,
    bottom: float,
    width: float,
    look: Sequence[str],
    title: str,
    name: str,
    words: str,
) -> None:
    """A part of the model: its name, which model it is, and whether it learns (colour and word)."""
    fill, edge, _ = look
    axes.add_patch(
        FancyBboxPatch((left, bottom), width, _BOX, boxstyle="round,pad=0,rounding_size=0.06", facecolor=fill,
                       edgecolor=edge, linewidth=1.1, linestyle="--" if look is TEACHER else "-")
    )  # fmt: skip
    top = bottom + _BOX
    _say(axes, left + 0.07, top - 0.06, title, width - 0.1, size=8.5, weight="bold")
    _say(axes, left + 0.07, top - 0.235, name, width - 0.1, size=7.5, colour=GREY)
    _say(axes, left + 0.07, top - 0.405, words, width - 0.1, size=8, colour=edge, weight="bold")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0})


def _say_lines(axes: Axes, left: float, top: float, texts: Sequence[str], width: float) -> None:
    for text in texts:
        top -= 0.155 * _say(axes, left, top, text, width, lines=3) + 0.06


def _say(
    axes: Axes, left: float, top: float, text: str, width: float, size: float = 8, colour: str = INK,
    weight: str = "normal", lines: int = 1,
) -> int:  # fmt: skip
    """Text below ``top``, wrapped at ``width``; how many lines it took."""
    wrapped = wrap(text, 72 * width, size, lines, weight)
    look = {"fontsize": size, "color": colour, "weight": weight, "family": families(), "parse_math": False}
    axes.text(left, top, "\n".join(wrapped), va="top", linespacing=1.3, **look)
    return len(wrapped)
