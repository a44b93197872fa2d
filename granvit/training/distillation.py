"""Localized self-distillation (Sec. 4.3): an EMA teacher sees region crops, the student must show the
same in its own feature map."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from granvit.errors import GranvitError
from granvit.models.encoders import Encoder
from granvit.models.roi_align import roi_align, to_map
from granvit.training.batches import Regions


class Teacher:
    """The teacher encoder: starts as the student, follows it by theta_tea = a theta_tea + (1 - a)
    theta_stu, kept in fp32.

    ``settings``: ema_decay, crop_size (pixels), pool ('grid': the teacher's own token grid; 'pooled': one
    token, as in CLIPSelf), normalise (compare tokens after a layer norm without weights: otherwise student
    and teacher, who follow each other, can let their features grow together). Raises GranvitError where
    crop_size is no multiple of the encoder's patch size.
    """

    def __init__(self, student: Encoder, settings) -> None:
        patch = student.spec.patch_size
        if settings.crop_size % patch:
            raise GranvitError(
                f"distillation: crop_size is {settings.crop_size}; expected a multiple of the encoder's "
                f"patch size {patch}"
            )
        self.settings = settings
        self.encoder = copy.deepcopy(student).float().eval().requires_grad_(False)
        self.pairs = (self.encoder.feature_parameters(), student.feature_parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Follow the student; call it after the optimizer step."""
        teacher, student = self.pairs
        torch._foreach_lerp_(teacher, [p.detach().float() for p in student], 1 - self.settings.ema_decay)

    @torch.no_grad()
    def region_features(self, pixels: torch.Tensor, regions: Regions) -> torch.Tensor:
        """(R, C, H, W) features of crops cut on the device from normalised views (V, 3, S, S)."""
        size = self.settings.crop_size
        crops = roi_align(pixels, regions.boxes, regions.views, (size, size))
        return to_map(self.encoder(crops))

    def loss(
        self, features: torch.Tensor, pixels: torch.Tensor, regions: Regions
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """L_distill = MSE(x'_crop, ROIAlign(x')), and the student-teacher cosine to watch.

        features: (V, T, C) of the student; pixels: (V, 3, S, S) normalised; regions: boxes in pixels of
        their views.
        """
        if not len(regions.boxes):
            nothing = features.sum() * 0
            return nothing, nothing.detach()
        target = self.region_features(pixels, regions).float()
        student = roi_align(
            to_map(features),
            regions.boxes,
            regions.views,
            target.shape[-2:],
            1 / self.encoder.spec.patch_size,
        )
        student = student.float()
        if self.settings.pool == "pooled":
            student, target = student.mean((2, 3)), target.mean((2, 3))
        cosine = F.cosine_similarity(student.detach(), target, dim=1).mean()
        if self.settings.normalise:
            student, target = (_normalise(part) for part in (student, target))
        return F.mse_loss(student, target), cosine


def _normalise(features: torch.Tensor) -> torch.Tensor:
    """(R, C, ...) -> the same shape, mean 0 and variance 1 over the channels."""
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)
