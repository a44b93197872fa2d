"""What a step minimises: L = L_caption + lambda L_distill (Sec. 4.3); in a control, L_contrast stands for
L_caption."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from granvit.device import autocast
from granvit.models.mllm import MLLM
from granvit.training.batches import MicroBatch
from granvit.training.contrast import RegionContrast
from granvit.training.distillation import Teacher
from granvit.training.images import FeatureStore


@dataclass(frozen=True)
class Totals:
    """Supervised tokens (described regions, where these are contrasted), regions and images of a step, on
    all ranks together: a micro-batch weighs its part of them."""

    tokens: float
    regions: float
    images: float


IDLE = Totals(math.inf, math.inf, math.inf)  # of a micro-batch that weighs nothing, to keep ranks in step


class Objective(nn.Module):
    """A micro-batch's share of the loss as one forward pass. ``teacher``: None where the recipe does not
    distil; ``features``: where a frozen encoder's features are remembered."""

    def __init__(self, model: MLLM, recipe, features: FeatureStore | None) -> None:
        super().__init__()
        self.model, self.recipe, self.features = model, recipe, features
        self.teacher = Teacher(model.encoder, recipe.distillation) if recipe.distillation else None
        self.contrast = None
        if recipe.contrastive:
            embeddings, patch = model.llm.get_input_embeddings(), model.encoder.spec.patch_size
            self.contrast = RegionContrast(embeddings, patch, recipe.contrastive.temperature)

    def forward(self, micro: MicroBatch, totals: Totals) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The part of the loss, and of each column to log, that this micro-batch adds to its step."""
        device = self.model.device
        with autocast(device, self.recipe.precision):
            views, encoded, features = self._see(micro)
            if self.contrast:
                name, projector = "loss_contrast", self.model.projector
                losses = self.contrast.losses(encoded, projector, micro.pairs.to(device))
            else:
                name = "loss_caption"
                losses = self.model.token_losses(self.model.projector(features), micro.packed.to(device))
            supervised = losses.sum() / totals.tokens
            norm = features.detach().float().norm(dim=-1).mean() * (len(features) / totals.images)
            if not self.teacher:
                return supervised, {"loss": supervised, name: supervised, "feature_norm": norm}
            distill, cosine = self.teacher.loss(encoded, views, micro.regions.to(device))
            part = len(micro.regions.boxes) / totals.regions
            distill, cosine = distill * part, cosine * part
            loss = supervised + self.recipe.distillation.weight * distill
            metrics = {"loss": loss, name: supervised, "feature_norm": norm}
            return loss, {**metrics, "loss_distill": distill, "cosine": cosine}

    def _see(self, micro: MicroBatch) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
        """Normalised views, the encoder's features of each, and those of each image joined."""
        if micro.pixels is None:
            return None, None, self.features(micro.rows)
        pixels = micro.pixels.to(self.model.device, non_blocking=True)
        views = self.model.encoder.normalise(pixels.flatten(0, -4))
        with torch.set_grad_enabled(self.recipe.trains.encoder):
            encoded = self.model.encoder(views)
        return views, encoded, self.model.join_views(encoded)
