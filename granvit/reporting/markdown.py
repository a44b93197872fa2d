"""Markdown tables: best in bold, second best underlined, as far as intervals tell them apart; model names
marked with the scale."""

from __future__ import annotations

from collections.abc import Sequence

ENCODERS = ("CLIP", "SigLIP", "SigLIP2", "AIMv2", "InternViT", "SAILViT", "RICE", "DINOv3", "GranViT")
MODELS = (*ENCODERS, "Qwen2.5", "LLaMA3")
SCALE_NOTES = {
    "paper": "Scale: **paper**. Published checkpoints, the paper's data and benchmarks.",
    "small": (
        "Scale: **small**. Smaller published checkpoints and less data stand in for the paper's; the "
        "benchmarks are the real ones: these numbers can be compared with each other, not with the paper's."
    ),
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


def ranked(values: Sequence[float], texts: Sequence[str], lows: Sequence[float] | None = None) -> list[str]:
    """Texts with the best value bold and, of three or more, the second best underlined; ``places`` says which
    share a mark.
    """
    marks = ("{}", "**{}**", "<u>{}</u>")
    return [marks[place].format(text) for place, text in zip(places(values, lows), texts, strict=True)]


def places(values: Sequence[float], lows: Sequence[float] | None = None) -> list[int]:
    """1 for the best value and all that are no lower than the lower end of its interval, ``lows`` (without
    them: that equal it); 2 for the second best of three or more, the best of the others, and all within its
    interval; else 0. All 0 where all would be 1.
    """
    lows, found = lows or values, [0] * len(values)
    for place in (1, 2) if len(values) > 2 else (1,):
        left = [number for number, of in enumerate(found) if of == 0]
        if left:
            best = max(left, key=values.__getitem__)
            for number in left:
                found[number] = place if values[number] >= min(lows[best], values[best]) else 0
    return [0] * len(values) if set(found) == {1} else found
