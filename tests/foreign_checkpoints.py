"""Writes checkpoints the way their authors published them: the opposite direction of granvit's key tables,
on its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Aimv2VisionConfig, Aimv2VisionModel, InternVLVisionConfig, InternVLVisionModel

from granvit.config.schema import EncoderSpec

SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_channels": 3, "image_size": 32, "patch_size": 8,
}  # fmt: skip
INTERN_VIT = SIZES | {
    "model_type": "intern_vit_6b", "architectures": ["InternVisionModel"], "attention_dropout": 0.0,
    "auto_map": {"AutoModel": "modeling_intern_vit.InternVisionModel"}, "drop_path_rate": 0.1, "dropout": 0.0,
    "hidden_act": "gelu", "initializer_factor": 0.1, "layer_norm_eps": 1e-06, "norm_type": "layer_norm",
    "qk_normalization": False, "qkv_bias": True, "use_flash_attn": True,
}  # fmt: skip
AIMV2 = SIZES | {
    "model_type": "aimv2", "architectures": ["AIMv2Model"], "attention_dropout": 0.0,
    "auto_map": {"AutoModel": "modeling_aimv2.AIMv2Model"}, "projection_dropout": 0.0, "qkv_bias": False,
    "rms_norm_eps": 1e-05, "use_bias": False,
}  # fmt: skip


def random_model(layout: str) -> torch.nn.Module:
    """A tiny native model whose every weight is random (norms and layer scales too)."""
    torch.manual_seed(3)
    if layout == "intern_vit":
        model = InternVLVisionModel(InternVLVisionConfig(**SIZES, attention_bias=True))
    else:
        model = Aimv2VisionModel(Aimv2VisionConfig(**SIZES, use_head=False))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def published_weights(layout: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of ``model`` under the names of the published checkpoint."""
    own = {key: value.detach() for key, value in model.state_dict().items()}
    layers = model.config.num_hidden_layers
    return _intern_vit(own, layers) if layout == "intern_vit" else _aimv2(own, layers)


def write_checkpoint(folder: Path, config: dict, weights: dict[str, torch.Tensor]) -> EncoderSpec:
    """One model.safetensors and its config.json; returns the EncoderSpec of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return EncoderSpec(path=str(folder), image_size=32, patch_size=8, mean=[0.5] * 3, std=[0.5] * 3)


def make_foreign_encoder(folder: Path, layout: str) -> EncoderSpec:
    """Save a random encoder in a published layout ('intern_vit', 'aimv2'); returns its EncoderSpec."""
    config = INTERN_VIT if layout == "intern_vit" else AIMV2
    return write_checkpoint(folder, config, published_weights(layout, random_model(layout)))


def _intern_vit(own: dict, layers: int) -> dict:
    patches = "embeddings.patch_embeddings.projection"
    weights = {
        "embeddings.class_embedding": own["embeddings.cls_token"],
        "embeddings.position_embedding": own["embeddings.position_embeddings"],
        "embeddings.patch_embedding.weight": own[f"{patches}.weight"],
        "embeddings.patch_embedding.bias": own[f"{patches}.bias"],
    }
    for number in range(layers):
        old, new = f"encoder.layer.{number}", f"encoder.layers.{number}"
        for kind in ("weight", "bias"):
            parts = [own[f"{old}.attention.{part}_proj.{kind}"] for part in "qkv"]
            weights |= {
                f"{new}.attn.qkv.{kind}": torch.cat(parts),
                f"{new}.attn.proj.{kind}": own[f"{old}.attention.projection_layer.{kind}"],
                f"{new}.mlp.fc1.{kind}": own[f"{old}.mlp.fc1.{kind}"],
                f"{new}.mlp.fc2.{kind}": own[f"{old}.mlp.fc2.{kind}"],
                f"{new}.norm1.{kind}": own[f"{old}.layernorm_before.{kind}"],
                f"{new}.norm2.{kind}": own[f"{old}.layernorm_after.{kind}"],
            }
        weights[f"{new}.ls1"], weights[f"{new}.ls2"] = own[f"{old}.lambda_1"], own[f"{old}.lambda_2"]
    return weights


def _aimv2(own: dict, layers: int) -> dict:
    weights = {
        "preprocessor.patchifier.proj.weight": own["embeddings.patch_embed.weight"],
        "preprocessor.patchifier.proj.bias": own["embeddings.patch_embed.bias"],
        "preprocessor.patchifier.norm.weight": own["embeddings.rms_norm.weight"],
        "preprocessor.pos_embed": own["embeddings.position_embedding.weight"].unsqueeze(0),
        "trunk.post_trunk_norm.weight": own["rms_norm.weight"],
    }
    for number in range(layers):
        old, new = f"encoder.layers.{number}", f"trunk.blocks.{number}"
        weights |= {
            f"{new}.attn.qkv.weight": torch.cat([own[f"{old}.attention.{p}_proj.weight"] for p in "qkv"]),
            f"{new}.attn.proj.weight": own[f"{old}.attention.out_proj.weight"],
            f"{new}.mlp.fc1.weight": own[f"{old}.ffn.gate_proj.weight"],
            f"{new}.mlp.fc2.weight": own[f"{old}.ffn.down_proj.weight"],
            f"{new}.mlp.fc3.weight": own[f"{old}.ffn.up_proj.weight"],
            f"{new}.norm_1.weight": own[f"{old}.rms_norm1.weight"],
            f"{new}.norm_2.weight": own[f"{old}.rms_norm2.weight"],
        }
    return weights
