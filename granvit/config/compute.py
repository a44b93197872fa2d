"""How work is laid out on devices: the section `compute` of the configuration, and a training run's part of
it."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from granvit.config.base import NonNegativeInt, Positive, PositiveInt, Share, Strict

Sharding = Literal["ddp", "zero2", "zero3"]
Attention = Literal["auto", "sdpa", "flex"]
Compile = Literal["auto"] | bool


class RunCompute(Strict):
    """How one training run is laid out on its devices; what it learns does not depend on it."""

    sharding: Sharding = "ddp"
    attention: Attention = "sdpa"
    tokens_per_batch: PositiveInt = 1 << 30
    gradient_checkpointing: bool = False
    compile: Compile = False
    frozen_bf16: bool = False
    data_workers: NonNegativeInt = 0
    keep_states: PositiveInt = 1
    max_bad_steps: PositiveInt = 1
    max_skipped_share: Share = 0.0
    device_memory: Positive | None = None


class ShardingOfStages(Strict):
    projector: Sharding
    stage1: Sharding
    stage2: Sharding
    sft: Sharding
    continued: Sharding


class Compute(Strict):
    device: str
    fork_server: bool
    annotate_threads: PositiveInt
    train_threads: PositiveInt
    predict_threads: PositiveInt
    accelerators: NonNegativeInt
    train_devices: NonNegativeInt
    train_nodes: PositiveInt
    launcher: str | None
    sharding: ShardingOfStages
    large_llms: list[str]
    attention: Attention
    compile: Compile
    frozen_bf16: bool
    tokens_per_batch: PositiveInt
    data_workers: NonNegativeInt
    keep_states: PositiveInt
    minutes_to_save: Positive
    max_bad_steps: PositiveInt
    max_skipped_share: Share
    device_memory: Positive | None

    @computed_field
    @property
    def train_accelerators(self) -> int:
        """Devices of a training job, on all of its nodes."""
        return self.train_devices * self.train_nodes

    def for_run(self, recipe) -> RunCompute:
        """What holds for one recipe: an LLM too large for a device's memory is tuned in shards; its
        activations are computed twice, frozen or not, since gradients go through it. Layers whose weights
        come and go (zero3) are not compiled."""
        large = recipe.trains.llm and recipe.llm in self.large_llms
        sharding = "zero3" if large else getattr(self.sharding, recipe.stage)
        decided = {
            "sharding": sharding,
            "gradient_checkpointing": recipe.llm in self.large_llms,
            "compile": self.compile if sharding != "zero3" else False,
        }
        shared = RunCompute.model_fields.keys() - decided.keys()
        return RunCompute(**decided, **self.model_dump(include=shared))
