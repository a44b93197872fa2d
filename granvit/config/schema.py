"""The shape of everything that `config/` may say, as pydantic models.

A key that is not here is refused. What config/recipes.yaml may say stands in `granvit.config.recipes`.
"""

from __future__ import annotations

from typing import Literal

from granvit.config.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Share, Strict
from granvit.config.compute import Compute
from granvit.config.data import Data
from granvit.config.judge import JudgeSettings

ScaleName = Literal["smoke", "mini", "small", "paper"]
Stage = Literal["projector", "stage1", "stage2", "sft", "continued"]
Budget = Literal["8M", "16M", "24M", "all"]
Turns = Literal["separate", "chained"]


class Parts(Strict):
    """Which parts of the model learn."""

    encoder: bool
    projector: bool
    llm: bool


class Rates(Strict):
    """Peak learning rate of each part; of no account for a part that does not learn."""

    encoder: NonNegative
    projector: NonNegative
    llm: NonNegative


class Distillation(Strict):
    """Localized self-distillation of stage 1 (Sec. 4.3)."""

    weight: NonNegative
    ema_decay: Share
    crop_size: PositiveInt
    regions_per_image: PositiveInt
    context: NonNegative
    pool: Literal["grid", "pooled"]
    normalise: bool


class Contrastive(Strict):
    """A contrastive loss on regions in place of the language model's (docs/controls.md)."""

    temperature: Positive


class StageSettings(Strict):
    """What all runs of one stage share unless their recipe says otherwise."""

    mixture: str
    trains: Parts
    learning_rate: Rates
    batch_size: PositiveInt
    epochs: Positive
    turns: Turns
    distillation: Distillation | None
    contrastive: Contrastive | None = None
    tokens_of: str | None = None
    eval_every: NonNegativeInt
    eval_images: NonNegativeInt
    save_every: PositiveInt


class Stages(Strict):
    projector: StageSettings
    stage1: StageSettings
    stage2: StageSettings
    sft: StageSettings
    continued: StageSettings


class Training(Strict):
    """What all stages share."""

    warmup_ratio: Share
    weight_decay: NonNegative
    max_grad_norm: Positive
    precision: Literal["fp32", "bf16"]


class Evaluation(Strict):
    batch_size: PositiveInt
    judge: JudgeSettings


class Report(Strict):
    """What `snakemake report` shows; ``tables`` and ``figures``: names, or None for all that `all` makes."""

    tables: list[str] | None
    figures: list[str] | None
    data: bool
    beside: list[str]
    questions: PositiveInt | None
    page: PositiveInt
    image_side: PositiveInt


class EncoderSpec(Strict):
    """A vision encoder on disk or on the hub, and how it wants its images (0-1 RGB, minus `mean`, over
    `std`).
    """

    path: str
    image_size: PositiveInt
    patch_size: PositiveInt
    feature_layer: int = -2
    mean: list[float]
    std: list[float]

    @property
    def tokens(self) -> int:
        """Patch tokens of one image, the class token not counted."""
        return (self.image_size // self.patch_size) ** 2


class LLMSpec(Strict):
    path: str


class Config(Strict):
    """The configuration of one scale, resolved: defaults, then the scale's file, then what the user
    overrides.
    """

    scale: ScaleName
    seed: NonNegativeInt
    comparison_seeds: list[NonNegativeInt]
    claims: list[str] | None
    models: Literal["standins", "small", "published"]
    max_tiles: PositiveInt
    data: Data
    training: Training
    stages: Stages
    evaluation: Evaluation
    report: Report
    compute: Compute
    encoders: dict[str, EncoderSpec]
    llms: dict[str, LLMSpec]
