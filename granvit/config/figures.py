"""What `config/figures.yaml` may say: what each figure shows, and by which rule it is chosen."""

from __future__ import annotations

from pathlib import Path

from granvit.config.base import PositiveInt, Strict
from granvit.config.reading import check, read_yaml


class Curves(Strict):
    """Fig. 4a. ``runs``: recipes that log held-out scores, in the order in which they stand."""

    runs: list[str]


class HeldOutAnswers(Strict):
    """``questions``: on how many regions of natural images, and of pages, each model is asked both tasks."""

    questions: PositiveInt


class FiguresFile(Strict):
    """All of `config/figures.yaml`."""

    figure4a: Curves
    heldout_answers: HeldOutAnswers


def load_figures(path: str | Path = "config/figures.yaml") -> FiguresFile:
    """Every figure's settings. Raises GranvitError naming the key that is wrong."""
    return check(FiguresFile, read_yaml(path), str(path))
