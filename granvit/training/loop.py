"""The one training loop of all stages: L = L_caption + lambda L_distill (Sec. 4.3), AdamW, cosine
schedule, exact resume."""

from __future__ import annotations

import math

import torch

from granvit.device import autocast, use_fused_optimizer
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.training.batches import Batch, Batches
from granvit.training.distillation import Teacher
from granvit.training.images import FeatureStore

PARTS = ("encoder", "projector", "llm")


def freeze_all_but(model: MLLM, parts: tuple[str, ...]) -> dict[str, list[torch.nn.Parameter]]:
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
    learning: dict[str, list[torch.nn.Parameter]], recipe, device: torch.device
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


class Trainer:
    """Model, teacher, optimizer and batches of one run; ``step(n)`` does training step n (from 0)."""

    def __init__(
        self,
        model: MLLM,
        recipe,
        learning: dict[str, list[torch.nn.Parameter]],
        batches: Batches,
        features: FeatureStore | None,
        device: torch.device,
    ) -> None:
        self.model, self.recipe, self.batches, self.features, self.device = (
            model,
            recipe,
            batches,
            features,
            device,
        )
        self.parameters = [parameter for part in learning.values() for parameter in part]
        self.optimizer = make_optimizer(learning, recipe, device)
        self.encoder_learns = "encoder" in learning
        self.teacher = Teacher(model.encoder, recipe.distillation) if recipe.distillation else None
        self.steps = batches.order.steps

    def step(self, number: int) -> dict[str, float]:
        """One optimizer step; returns what to log. Raises GranvitError, before the weights change, on a
        loss that is no number."""
        batch = self.batches[number]
        with autocast(self.device, self.recipe.precision):
            loss, metrics = self._losses(batch)
        self._require_finite(loss, "loss", number, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self._require_finite(norm, "gradient norm", number, batch)
        factor = rate_factor(number, self.steps, self.recipe.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.step()
        if self.teacher:
            self.teacher.update()
        values = {"loss": loss, **metrics, "grad_norm": norm}
        return {name: float(value.detach()) for name, value in values.items()}

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model = self.model
        if batch.pixels is None:
            views, features = None, self.features(batch.rows)
        else:
            views = model.encoder.normalise(batch.pixels.to(self.device).flatten(0, -4))
            with torch.set_grad_enabled(self.encoder_learns):
                encoded = model.encoder(views)
            features = model.join_views(encoded)
        caption = model.token_losses(model.projector(features), batch.packed.to(self.device)).mean()
        metrics = {"loss_caption": caption, "feature_norm": features.detach().float().norm(dim=-1).mean()}
        if not self.teacher:
            return caption, metrics
        regions = batch.regions.to(self.device)
        distill, watched = self.teacher.loss(encoded, views, regions)
        metrics |= {"loss_distill": distill, **watched}
        return caption + self.recipe.distillation.weight * distill, metrics

    def _require_finite(self, value: torch.Tensor, what: str, number: int, batch: Batch) -> None:
        if not torch.isfinite(value):
            raise GranvitError(
                f"{self.recipe.name}: {what} is {float(value.detach())} at step {number + 1}; stopped "
                f"before the weights changed. "
                f"Images of the batch: {', '.join(batch.keys)}. Lower learning_rate, or look at these images"
            )

    def state(self) -> dict:
        """All that a resumed run needs from here."""
        learnt = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return {
            "model": learnt,
            "optimizer": self.optimizer.state_dict(),
            "teacher": self.teacher.encoder.state_dict() if self.teacher else None,
            "rng": torch.get_rng_state(),
        }

    def load(self, state: dict) -> None:
        """Take over what ``state`` gave."""
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state["model"].items():
                parameters[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.teacher:
            self.teacher.encoder.load_state_dict(state["teacher"])
        torch.set_rng_state(state["rng"])


def keep_encoding(model: MLLM, device: torch.device, precision: str):
    """The frozen encoder as a function from stacked pixels to (B, image_tokens, C) features."""

    @torch.no_grad()
    def encode(pixels: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            return model.join_views(model.encode_views(pixels))

    return encode
