"""Vision encoders: the transformers classes of the paper's six encoders, and of two published since, behind
one small module.

Every encoder gives the patch tokens of one hidden state (``feature_layer``, penultimate by default:
LLaVA's convention), without CLS token. Layers behind it are not computed but stay in the checkpoint, so
that an exported encoder is whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import (
    Aimv2VisionModel,
    CLIPVisionModel,
    DINOv3ViTModel,
    InternVLVisionModel,
    MLCDVisionModel,
    SiglipVisionModel,
)

from granvit.boxes import pad_offsets
from granvit.errors import GranvitError
from granvit.models.key_layouts import find_layout, native_config, native_weights
from granvit.models.loading import load_pretrained, read_config, read_json, read_weights, require_model

FOREIGN = ("text_model.", "logit_scale", "logit_bias", "visual_projection.", "text_projection.")
PREPROCESSOR = "preprocessor_config.json"


Rotation = tuple[torch.Tensor, torch.Tensor]  # cosine and sine, (tokens, channels of a head)


def _turn_mlcd(model: nn.Module, pixels: torch.Tensor) -> Rotation:
    """MLCD's rotation: the patches by row and column, the class token by an angle of its own."""
    rows, columns = (side // model.config.patch_size for side in pixels.shape[-2:])
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(pixels.device)
    own = model.class_pos_emb.repeat(1, 2)
    cosine, sine = model.vision_rotary_embedding(pixels, places)
    return torch.cat([own.cos(), cosine]), torch.cat([own.sin(), sine])


def _turn_dinov3(model: nn.Module, pixels: torch.Tensor) -> Rotation:
    """DINOv3's rotation of the patches, without the random scale of its own pretraining."""
    model.rope_embeddings.training = False
    return model.rope_embeddings(pixels)


@dataclass(frozen=True)
class Family:
    """Where a vision class keeps what a truncated forward pass needs."""

    model: type
    layers: str  # the transformer layers
    attention: str  # the self-attention of a layer
    pre_norm: str | None  # a norm between embeddings and layers
    class_tokens: int  # leading tokens that are no patches, beside register tokens
    interpolates: bool  # embeddings take interpolate_pos_encoding
    extra_args: tuple  # what a layer takes behind the hidden states
    rotary: Callable[[nn.Module, torch.Tensor], Rotation] | None = None  # by which each layer turns patches


SIGLIP = Family(SiglipVisionModel, "encoder.layers", "self_attn", None, 0, True, (None,))
CLIP = Family(CLIPVisionModel, "encoder.layers", "self_attn", "pre_layrnorm", 1, True, (None,))
AIMV2 = Family(Aimv2VisionModel, "encoder.layers", "attention", None, 0, False, (None,))
INTERNVL = Family(InternVLVisionModel, "encoder.layer", "attention", None, 1, False, ())
MLCD = Family(MLCDVisionModel, "encoder.layers", "self_attn", "pre_layrnorm", 1, False, (), _turn_mlcd)
DINOV3 = Family(DINOv3ViTModel, "model.layer", "attention", None, 1, False, (None,), _turn_dinov3)
FAMILIES = {
    "siglip": SIGLIP, "siglip_vision_model": SIGLIP,
    "clip": CLIP, "clip_vision_model": CLIP,
    "aimv2": AIMV2, "aimv2_vision_model": AIMV2,
    "internvl_vision": INTERNVL, "intern_vit_6b": INTERNVL,
    "mlcd": MLCD, "mlcd_vision_model": MLCD,
    "dinov3_vit": DINOV3,
}  # fmt: skip


class Encoder(nn.Module):
    """A vision encoder. ``forward``: (B, 3, H, W) normalised pixels -> (B, T, C) patch features in raster
    order.

    ``spec`` needs ``image_size, patch_size`` (pixels), ``feature_layer``, ``mean, std`` (RGB, 0-1).
    H and W may differ from ``image_size`` (smaller teacher crops): position embeddings are then interpolated.
    Raises GranvitError where ``feature_layer`` is out of range.
    """

    def __init__(self, model: nn.Module, family: Family, spec) -> None:
        super().__init__()
        self.model, self.family, self.spec = model, family, spec
        depth = len(self.layers)
        self.depth_used = spec.feature_layer if spec.feature_layer >= 0 else depth + 1 + spec.feature_layer
        if not 1 <= self.depth_used <= depth:
            raise GranvitError(
                f"encoder: feature_layer {spec.feature_layer} is out of range; {spec.path!r} has {depth} "
                f"layers"
            )
        self.width = model.config.hidden_size
        self.grid = spec.image_size // spec.patch_size
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    @property
    def class_tokens(self) -> int:
        """How many leading tokens are no patches: class and register tokens."""
        return self.family.class_tokens + getattr(self.model.config, "num_register_tokens", 0)

    @property
    def layers(self) -> nn.ModuleList:
        """All transformer layers, those behind the feature layer too."""
        return self.model.get_submodule(self.family.layers)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden, turn = self._embed(pixel_values), self.family.rotary
        named = {"position_embeddings": turn(self.model, pixel_values)} if turn else {}
        for layer in self.layers[: self.depth_used]:
            hidden = layer(hidden, *self.family.extra_args, **named)
        return hidden[:, self.class_tokens :]

    def _embed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        embeddings = self.model.embeddings
        resized = (
            pixel_values.shape[-1] != self.spec.image_size or pixel_values.shape[-2] != self.spec.image_size
        )
        if self.family == AIMV2 and resized and not self.model.config.is_native:
            hidden = self._embed_resized_aimv2(pixel_values)
        elif self.family.interpolates:
            hidden = embeddings(pixel_values, interpolate_pos_encoding=resized)
        else:
            hidden = embeddings(pixel_values)
        return getattr(self.model, self.family.pre_norm)(hidden) if self.family.pre_norm else hidden

    def _embed_resized_aimv2(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """AIMv2's own embedding knows one size only; bicubic, as the other families do it."""
        embeddings = self.model.embeddings
        patches = embeddings.patch_embed(pixel_values)
        positions = embeddings.position_embedding.weight
        side = math.isqrt(positions.shape[0])
        positions = positions.T.reshape(1, -1, side, side)
        positions = F.interpolate(positions, size=patches.shape[-2:], mode="bicubic", align_corners=False)
        return embeddings.rms_norm(patches.flatten(2).transpose(1, 2)) + positions.flatten(2).transpose(1, 2)

    def feature_parameters(self) -> list[nn.Parameter]:
        """The parameters that the features depend on; the head and the layers behind the feature layer
        learn nothing."""
        modules = [self.model.embeddings, *self.layers[: self.depth_used]]
        if self.family.pre_norm:
            modules.append(getattr(self.model, self.family.pre_norm))
        named = [pair for module in modules for pair in module.named_parameters()]
        own = [self.model.class_pos_emb] if self.family == MLCD else []
        return [
            *(parameter for name, parameter in named if name != "mask_token"),
            *own,
        ]  # masks no patch here

    def preprocess(self, image: Image.Image, size: int | None = None) -> torch.Tensor:
        """RGB image -> uint8 (3, size, size): padded to a centred square in the mean colour (LLaVA's
        expand2square), then resized (Pillow's bicubic). ``size``: pixels, ``image_size`` by default.

        Training, prediction and the toolkits all show the encoder this picture.
        """
        size = size or self.spec.image_size
        dx, dy, side = pad_offsets(*image.size)
        width = side
        if image.width == side:
            # Pillow resizes along rows first, each by itself: those that will be padding can wait.
            image, width = image.resize((size, image.height), Image.Resampling.BICUBIC), size
        if image.size != (width, side):
            colour = tuple(round(255 * channel) for channel in self.spec.mean)
            canvas = Image.new("RGB", (width, side), colour)
            canvas.paste(image, (dx, dy))
            image = canvas
        if image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.stack([np.asarray(band) for band in image.split()]))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (..., 3, H, W) -> float, zero mean and unit scale, on the device that holds the pixels."""
        return (pixels.to(self.mean.dtype).div_(255) - self.mean) / self.std

    def save(self, folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Write a plain transformers folder: all layers, config.json, preprocessor_config.json. AutoModel and
        AutoImageProcessor read it without this package; padding to a square is left to the reader."""
        if weights:
            weights = {name.removeprefix("model."): value for name, value in weights.items()}
        self.model.save_pretrained(folder, state_dict=weights)
        spec = self.spec
        settings = {
            "image_processor_type": "SiglipImageProcessor",  # resizes to `size`; CLIP's own would also crop
            "do_resize": True, "size": {"height": spec.image_size, "width": spec.image_size}, "resample": 3,
            "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": list(spec.mean), "image_std": list(spec.std),
            "granvit": {
                "padding": "square", "patch_size": spec.patch_size, "feature_layer": spec.feature_layer,
            },
        }  # fmt: skip
        (Path(folder) / PREPROCESSOR).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_encoder(spec) -> Encoder:
    """The encoder of ``spec.path`` (local folder or hub id), its class chosen by the checkpoint's
    ``model_type``. Layouts that were published with code of their own are renamed (``key_layouts``).

    Raises GranvitError on a missing folder, an unknown model type, weights or sizes that do not fit.
    """
    path = require_model(spec.path, "encoder")
    config = read_config(path, "encoder")
    model_type = config["model_type"]
    if model_type not in FAMILIES:
        raise GranvitError(
            f"encoder: {path!r} has model_type {model_type!r}; expected one of {', '.join(FAMILIES)}"
        )
    family, layout = FAMILIES[model_type], find_layout(config)
    source = {}
    if layout:
        source = {
            "config": native_config(layout, config, path),
            "state_dict": native_weights(layout, read_weights(path, "encoder")),
        }
    model = load_pretrained(family.model, path, "encoder", FOREIGN, **source).eval()
    # Rotary positions are made for any size: the published one is only where pretraining ended.
    for key in ("patch_size",) if family.rotary else ("image_size", "patch_size"):
        size = getattr(model.config, key)
        size = size if isinstance(size, int) else size[0]
        if size != getattr(spec, key):
            raise GranvitError(
                f"encoder: {key} of {path!r} is {size}, the configuration says {getattr(spec, key)}; "
                "correct it in config/encoders.yaml"
            )
    return Encoder(model, family, spec)


def load_saved_encoder(folder: Path) -> Encoder:
    """An encoder that ``Encoder.save`` wrote, with the preprocessing saved beside it. Raises GranvitError
    where that is missing."""
    file = Path(folder) / PREPROCESSOR
    saved = read_json(file, "encoder") if file.is_file() else {}
    if "granvit" not in saved:
        raise GranvitError(
            f"encoder: {file} is missing or another program's; this is no encoder that a training run "
            "exported. Run that run again"
        )
    own = saved["granvit"]
    spec = SimpleNamespace(
        path=str(folder),
        image_size=saved["size"]["height"],
        patch_size=own["patch_size"],
        feature_layer=own["feature_layer"],
        mean=saved["image_mean"],
        std=saved["image_std"],
    )
    return load_encoder(spec)
