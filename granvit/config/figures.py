"""What `config/figures.yaml` may say: what each figure shows, and by which rule it is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from granvit.config.base import NonNegativeInt, PositiveInt, Share, Strict
from granvit.config.reading import check, read_yaml


class Radar(Strict):
    """Fig. 1a. ``span``: lowest and highest score of every axis, in percent."""

    span: Annotated[list[float], Field(min_length=2, max_length=2)]

    @field_validator("span")
    @classmethod
    def _rises(cls, span: list[float]) -> list[float]:
        if span[0] >= span[1]:
            raise ValueError("the first number must be below the second; change one")
        return span


class Pipeline(Strict):
    """Fig. 3. ``runs``: recipes, a panel each, in the order in which they stand."""

    runs: Annotated[list[str], Field(min_length=1)]


class Curves(Strict):
    """Fig. 4a. ``runs``: recipes that log held-out scores, in the order in which they stand; ``seeds``: of
    each, None for the configuration's own."""

    runs: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)] | None


class HeldOutAnswers(Strict):
    """``questions``: on how many regions of natural images, and of pages, each model is asked both tasks."""

    questions: PositiveInt


DataTypes = Annotated[list[Literal["natural", "ocr"]], Field(min_length=1)]
Runs = Annotated[dict[str, str], Field(min_length=1)]


class AnsweredBoxes(Strict):
    """Figs. 4b, 11 and 12: questions for a region's box, on images of ``data_types``.

    ``runs``: label -> recipe, in the order of their pictures; ``best``, ``median``, ``worst``: how many
    questions of each, by the IoU of the last run; ``columns``: questions side by side.
    """

    runs: Runs
    data_types: DataTypes
    best: NonNegativeInt
    median: NonNegativeInt
    worst: NonNegativeInt
    columns: PositiveInt


class AnsweredCaptions(Strict):
    """Fig. 10: questions for a region's content. ``runs``: label -> recipe; ``quantiles``: which questions of
    each of ``data_types``, ranked by the mean ROUGE-L of all runs (0 the worst, 1 the best)."""

    runs: Runs
    data_types: DataTypes
    quantiles: Annotated[list[Share], Field(min_length=1)]


class Failures(Strict):
    """Fig. 13: failures of one run's captions, found by measure.

    ``runs``: one label -> recipe; ``cases``: how many of each kind; ``failed_below``: ROUGE-L (0-1) of a
    failure; ``max_box_share``: of the image's area, where a box is small; ``min_lines``: of a dense page;
    ``min_overlap``: IoU with another region's box; ``min_margin``: ROUGE-L by which an answer fits another
    region better than its own.
    """

    runs: Annotated[dict[str, str], Field(min_length=1, max_length=1)]
    cases: PositiveInt
    failed_below: Share
    max_box_share: Share
    min_lines: PositiveInt
    min_overlap: Share
    min_margin: Annotated[float, Field(gt=0, le=1)]


class AttentionMaps(Strict):
    """Figs. 1b, 8, 9 and the locality behind them. ``encoders``: name shown -> the run whose encoder it is;
    ``threshold``: attention (0-1, min-max of each map) below it is left out."""

    encoders: Annotated[dict[str, str], Field(min_length=1)]
    threshold: Share


def _file(path: str) -> str:
    """Checked here, since Snakemake takes an old map where the new one's image is missing."""
    if not Path(path).is_file():
        raise ValueError("is no file; correct the path, or take the image out")
    return path


class OwnImage(Strict):
    """A user's image file, and a point on it: shares of its width and height from the top left corner."""

    image: Annotated[str, AfterValidator(_file)]
    point: Annotated[list[Share], Field(min_length=2, max_length=2)]


class QueryPoints(Strict):
    """Whose maps a figure shows: ``points`` boxes on each of ``images`` held-out images of a data type that
    have at least ``min_boxes``, by hash; before them the user's ``own``."""

    data_type: Literal["natural", "ocr"]
    images: NonNegativeInt
    points: PositiveInt
    min_boxes: PositiveInt
    own: list[OwnImage] = []


class Scaling(Strict):
    """Fig. 5. ``columns``: of config/tables.yaml; ``stage1``, ``stage2``: fine-tuned runs whose ancestor of
    that stage saw more and more regions."""

    columns: Annotated[list[str], Field(min_length=1)]
    stage1: Annotated[list[str], Field(min_length=1)]
    stage2: Annotated[list[str], Field(min_length=1)]

    @property
    def leaves(self) -> list[str]:
        """All runs that are scored, each once."""
        return list(dict.fromkeys([*self.stage1, *self.stage2]))


class FiguresFile(Strict):
    """All of `config/figures.yaml`. ``captions``: a sentence for each figure of the paper."""

    figure1a: Radar
    figure3: Pipeline
    captions: dict[str, str]
    figure4a: Curves
    figure5: Scaling
    heldout_answers: HeldOutAnswers
    figure4b: AnsweredBoxes
    figure10: AnsweredCaptions
    figure11: AnsweredBoxes
    figure12: AnsweredBoxes
    figure13: Failures
    attention_maps: AttentionMaps
    figure1b: QueryPoints
    figure8: QueryPoints
    figure9: QueryPoints


def load_figures(path: str | Path = "config/figures.yaml") -> FiguresFile:
    """Every figure's settings. Raises GranvitError naming the key that is wrong."""
    return check(FiguresFile, read_yaml(path), str(path))
