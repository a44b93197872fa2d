"""The shape of everything that `config/` may say, as pydantic models.

A key that is not here is refused. The same models write the JSON schemas in `config/schemas/` (for editors),
and the resolved `Recipe` that a training run is handed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from granvit.config.base import NonNegative, NonNegativeInt, Positive, PositiveInt, Share, Strict
from granvit.config.compute import Compute
from granvit.config.data import Data
from granvit.config.judge import JudgeSettings

Stage = Literal["projector", "stage1", "stage2", "sft", "continued"]
Budget = Literal["8M", "16M", "24M", "all"]


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


class StageSettings(Strict):
    """What all runs of one stage share unless their recipe says otherwise."""

    mixture: str
    trains: Parts
    learning_rate: Rates
    batch_size: PositiveInt
    epochs: Positive
    distillation: Distillation | None
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

    scale: Literal["smoke", "mini", "paper"]
    seed: NonNegativeInt
    comparison_seeds: list[NonNegativeInt]
    models: Literal["standins", "published"]
    max_tiles: PositiveInt
    data: Data
    training: Training
    stages: Stages
    evaluation: Evaluation
    compute: Compute
    encoders: dict[str, EncoderSpec]
    llms: dict[str, LLMSpec]


class PartsChange(Strict):
    encoder: bool | None = None
    projector: bool | None = None
    llm: bool | None = None


class RatesChange(Strict):
    encoder: NonNegative | None = None
    projector: NonNegative | None = None
    llm: NonNegative | None = None


class DistillationChange(Strict):
    weight: NonNegative | None = None
    ema_decay: Share | None = None
    crop_size: PositiveInt | None = None
    regions_per_image: PositiveInt | None = None
    context: NonNegative | None = None
    pool: Literal["grid", "pooled"] | None = None
    normalise: bool | None = None


class RecipeEntry(Strict):
    """One line of config/recipes.yaml: where a run starts, and what it does differently from its stage."""

    stage: Stage
    parent: str | None = None
    encoder_from: str | None = None
    encoder: str | None = None
    llm: str | None = None
    tiling: bool | None = None
    mixture: str | None = None
    trains: PartsChange | None = None
    learning_rate: RatesChange | None = None
    batch_size: PositiveInt | None = None
    epochs: Positive | None = None
    distillation: DistillationChange | None = None
    eval_every: NonNegativeInt | None = None


class Recipe(Strict):
    """Everything that one training run depends on besides its seed and its input files."""

    name: str
    stage: Stage
    scale: Literal["smoke", "mini", "paper"]
    parent: str | None
    encoder_from: str | None
    encoder: str
    llm: str
    tiles: NonNegativeInt
    mixture: str
    trains: Parts
    learning_rate: Rates
    batch_size: PositiveInt
    epochs: Positive
    warmup_ratio: Share
    weight_decay: NonNegative
    max_grad_norm: Positive
    precision: Literal["fp32", "bf16"]
    distillation: Distillation | None
    eval_every: NonNegativeInt
    eval_images: NonNegativeInt
    save_every: PositiveInt
    step_version: PositiveInt
    parent_hash: str | None
    encoder_from_hash: str | None

    @property
    def hash(self) -> str:
        """sha256 of the resolved content. Names are left out: what a run is called does not change what it
        does.
        """
        content = self.model_dump(exclude={"name", "parent", "encoder_from"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def json_schemas() -> dict[str, dict]:
    """The JSON schemas of config/schemas/, by file name: for editors, written by `python -m
    granvit.config.schema`.
    """
    config = Config.model_json_schema()
    for key in ("encoders", "llms"):  # their own files, joined when the configuration is loaded
        del config["properties"][key]
        config["required"].remove(key)
    recipes = RecipeEntry.model_json_schema()
    definitions = recipes.pop("$defs")
    return {
        "config.schema.json": config,
        "recipes.schema.json": {"type": "object", "additionalProperties": recipes, "$defs": definitions},
    }


if __name__ == "__main__":
    for name, schema in json_schemas().items():
        Path("config/schemas", name).write_text(json.dumps(schema, indent=2) + "\n")
