"""The one training loop of all stages: L = L_caption + lambda L_distill (Sec. 4.3), AdamW, cosine
schedule, exact resume, on any number of ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from granvit.config.compute import RunCompute
from granvit.device import autocast, use_fused_optimizer
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.training.batches import Batch, Batches, Feed, MicroBatch
from granvit.training.distillation import Teacher
from granvit.training.engine import Cluster, Engine
from granvit.training.images import FeatureStore


def freeze_all_but(model: MLLM, parts: tuple[str, ...]) -> dict[str, list[nn.Parameter]]:
    """Let only ``parts`` learn; returns the learning parameters of each part.

    Of the encoder only what its features depend on learns: layers behind the feature layer never get a
    gradient.
    """
    model.requires_grad_(False).eval()
    learning = {}
    for part in parts:
        module = getattr(model, part).train()
        learning[part] = module.feature_parameters() if part == "encoder" else list(module.parameters())
        for parameter in learning[part]:
            parameter.requires_grad_(True)
    return learning


def make_optimizer(
    learning: dict[str, list[nn.Parameter]], recipe, device: torch.device
) -> torch.optim.AdamW:
    """AdamW with a learning rate a part; weight decay on matrices only (norms and biases have no scale to
    shrink)."""
    groups = []
    for part, parameters in learning.items():
        for decay, chosen in (
            (recipe.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            rate = getattr(recipe.learning_rate, part)
            groups.append({"params": chosen, "part": part, "lr": rate, "peak": rate, "weight_decay": decay})
    fused = use_fused_optimizer(device)
    return torch.optim.AdamW(groups, fused=fused, foreach=not fused)


def rate_factor(step: int, steps: int, warmup_ratio: float) -> float:
    """Linear warm-up over ``warmup_ratio`` of the steps, then cosine to zero; ``step`` counts from 0."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


@dataclass(frozen=True)
class Totals:
    """Supervised tokens, regions and images of a step, on all ranks together: a micro-batch weighs its
    part of them."""

    tokens: float
    regions: float
    images: float


IDLE = Totals(math.inf, math.inf, math.inf)  # of a micro-batch that weighs nothing, to keep ranks in step


class Objective(nn.Module):
    """A micro-batch's share of L = L_caption + lambda L_distill, as one forward pass."""

    def __init__(
        self,
        model: MLLM,
        teacher: Teacher | None,
        recipe,
        encoder_learns: bool,
        features: FeatureStore | None,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.model, self.teacher, self.recipe, self.device = model, teacher, recipe, device
        self.encoder_learns, self.features = encoder_learns, features

    def forward(self, micro: MicroBatch, totals: Totals) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The part of the loss, and of each column to log, that this micro-batch adds to its step."""
        with autocast(self.device, self.recipe.precision):
            views, encoded, features = self._see(micro)
            losses = self.model.token_losses(self.model.projector(features), micro.packed.to(self.device))
            caption = losses.sum() / totals.tokens
            norm = features.detach().float().norm(dim=-1).mean() * (len(features) / totals.images)
            if not self.teacher:
                return caption, {"loss": caption, "loss_caption": caption, "feature_norm": norm}
            distill, cosine = self.teacher.loss(encoded, views, micro.regions.to(self.device))
            part = len(micro.regions.boxes) / totals.regions
            distill, cosine = distill * part, cosine * part
            loss = caption + self.recipe.distillation.weight * distill
            metrics = {"loss": loss, "loss_caption": caption, "feature_norm": norm}
            return loss, {**metrics, "loss_distill": distill, "cosine": cosine}

    def _see(self, micro: MicroBatch) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
        """Normalised views, the encoder's features of each, and those of each image joined."""
        if micro.pixels is None:
            return None, None, self.features(micro.rows)
        views = self.model.encoder.normalise(micro.pixels.to(self.device, non_blocking=True).flatten(0, -4))
        with torch.set_grad_enabled(self.encoder_learns):
            encoded = self.model.encoder(views)
        return views, encoded, self.model.join_views(encoded)


class Trainer:
    """Model, teacher, optimizer and batches of one run; ``step(n)`` does training step n (from 0)."""

    def __init__(
        self,
        model: MLLM,
        recipe,
        learning: dict[str, list[nn.Parameter]],
        batches: Batches,
        features: FeatureStore | None,
        cluster: Cluster,
        compute: RunCompute,
    ) -> None:
        self.model, self.recipe, self.cluster = model, recipe, cluster
        self.batches = batches
        self.feed = Feed(batches, 0 if features else compute.data_workers)
        self.max_bad_steps = compute.max_bad_steps
        self.steps = batches.order.steps
        encoder_learns = "encoder" in learning
        self.teacher = Teacher(model.encoder, recipe.distillation) if recipe.distillation else None
        objective = Objective(model, self.teacher, recipe, encoder_learns, features, cluster.device)
        optimizer = make_optimizer(learning, recipe, cluster.device)
        parameters = [parameter for part in learning.values() for parameter in part]
        self.engine = Engine(cluster, objective, parameters, optimizer, recipe.max_grad_norm)
        self.bad_steps, self.bad_batch = 0, ""
        self.skipped: list[
            tuple[str, str]
        ] = []  # the last step's unreadable images of all ranks, with causes

    def step(self, number: int) -> dict[str, float]:
        """One optimizer step; returns what to log, the same on every rank.

        A loss or gradient that is no number changes nothing: ``loss`` is then NaN and ``self.bad_batch``
        names the images. Raises GranvitError after ``max_bad_steps`` such steps in a row.
        """
        batch = self.feed[number]
        totals, rounds = self._agree(batch)
        factor = rate_factor(number, self.steps, self.recipe.warmup_ratio)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        sums: dict[str, torch.Tensor] = {}
        for turn in range(rounds):
            idle = turn >= len(batch.micros)
            micro, weight = (self.batches.blank(), IDLE) if idle else (batch.micros[turn], totals)
            metrics = self.engine.accumulate(micro, weight, last=turn == rounds - 1)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0) + value.detach()
        norm = self.engine.step()
        if self.teacher and norm == norm:
            with self.engine.whole(self.teacher.pairs[1]):
                self.teacher.update()
        values = self.cluster.sum(torch.stack([value.float() for value in sums.values()])).tolist()
        metrics = {**dict(zip(sums, values, strict=True)), "grad_norm": norm}
        self._count_bad(metrics, number, batch)
        return metrics

    def _agree(self, batch: Batch) -> tuple[Totals, int]:
        """The step's totals over all ranks, and how many micro-batches every rank goes through."""
        counts = [micro.counts() for micro in batch.micros] or [(0, 0, 0)]
        local = [*(sum(column) for column in zip(*counts, strict=True)), len(batch.skipped)]
        *totals, skipped = self.cluster.sum(torch.tensor(local, device=self.cluster.device)).tolist()
        self.skipped = self.cluster.gather(batch.skipped) if skipped else []
        return Totals(*(max(total, 1) for total in totals)), max(self.cluster.max(len(batch.micros)), 1)

    def _count_bad(self, metrics: dict[str, float], number: int, batch: Batch) -> None:
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(metrics[name])]
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if not bad:
            return
        keys = self.cluster.gather(batch.keys)
        self.bad_batch = (
            f"{self.recipe.name}: {bad[0].replace('_', ' ')} is {metrics[bad[0]]} at step {number + 1}; this "
            f"step changed nothing. Images of the batch: {', '.join(keys)}"
        )
        if self.bad_steps >= self.max_bad_steps:
            raise GranvitError(
                f"{self.bad_batch}. {self.bad_steps} such steps in a row (compute.max_bad_steps): lower "
                f"learning_rate, or look at these images"
            )

    def state(self, folder) -> dict:
        """All that a resumed run needs from here; sharded parts are written under ``folder``."""
        return {
            **self.engine.save(folder),
            "teacher": self.teacher.encoder.state_dict() if self.teacher else None,
            "bad_steps": self.bad_steps,
        }

    def load(self, folder, state: dict) -> None:
        """Take over what ``state`` gave."""
        self.engine.load(folder, state)
        if self.teacher:
            self.teacher.encoder.load_state_dict(state["teacher"])
        self.bad_steps = state["bad_steps"]


def keep_encoding(model: MLLM, device: torch.device, precision: str):
    """The frozen encoder as a function from stacked pixels to (B, image_tokens, C) features."""

    @torch.no_grad()
    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            return model.join_views(model.encode_views(pixels))

    return encode
