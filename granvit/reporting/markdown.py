"""Markdown tables: best in bold, second best underlined, model names marked with the scale."""

from __future__ import annotations

from collections.abc import Sequence

MODELS = ("CLIP", "SigLIP", "SigLIP2", "AIMv2", "InternViT", "SAILViT", "GranViT", "Qwen2.5", "LLaMA3")
SCALE_NOTES = {
    "paper": "Scale: **paper**. Published checkpoints, the paper's data and benchmarks.",
    "mini": (
        "Scale: **mini**. Miniature encoders, language models, data and benchmarks stand in for the "
        "published ones: "
        "these numbers can be compared with each other, not with the paper's."
    ),
    "smoke": (
        "Scale: **smoke**. A few steps on a handful of images, to show that every step runs: these numbers "
        "mean nothing."
    ),
}


def marked(name: str, tag: str) -> str:
    """A model's name with a tag (the scale, or *reported*); other text stays as it is."""
    if not tag or not name.startswith(MODELS):
        return name
    return f"{name[:-1]}, {tag})" if name.endswith(")") else f"{name} ({tag})"


def scale_tag(scale: str) -> str:
    """What model names carry: nothing at paper scale."""
    return "" if scale == "paper" else scale


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table whose first ``left`` columns are text and the others numbers."""
    rule = [":--"] * left + ["--:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows]) + "\n"


def ranked(values: Sequence[float], texts: Sequence[str]) -> list[str]:
    """Texts with the best value bold and, of three or more, the second best underlined; ties share their
    mark.
    """
    marks = ("{}", "**{}**", "<u>{}</u>")
    return [marks[place].format(text) for place, text in zip(places(values), texts, strict=True)]


def places(values: Sequence[float]) -> list[int]:
    """1 for the best value, 2 for the second best of three or more, else 0; all 0 where all are equal."""
    distinct = sorted(set(values), reverse=True)
    if len(distinct) < 2:
        return [0] * len(values)
    second = distinct[1] if len(values) > 2 else None
    return [{distinct[0]: 1, second: 2}.get(value, 0) for value in values]
