"""Published encoder checkpoints whose weights are not named as transformers names them, as data.

InternViT (`intern_vit_6b`) and Apple's AIMv2 (`aimv2`, which SAILViT is grown from) were published with model
code of their own. transformers has the same networks, so a table of names is all that loading them takes: no
code of a checkpoint is ever run. A key that no rule names keeps its name, and the strict check of
`granvit.models.loading` then refuses it.

Sources: the modules of the published model code, and the key lists of the checkpoints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from transformers import Aimv2VisionConfig, InternVLVisionConfig, PreTrainedConfig

from granvit.errors import GranvitError

QKV = "{}"  # in a new name: this weight holds query, key and value below each other
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Layout:
    """How one published layout reads as transformers' own.

    ``sizes``: key of the published config.json -> key of the native configuration; every one is required, as
    a default would be another model. ``fixed``: native settings that the published configuration leaves to
    its code. ``names``: (pattern of a whole published key, native key).
    """

    config: type[PreTrainedConfig]
    sizes: dict[str, str]
    fixed: dict[str, object]
    names: tuple[tuple[str, str], ...]


SHARED_SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels",
    "image_size", "patch_size",
)  # fmt: skip

INTERN_VIT = Layout(
    config=InternVLVisionConfig,
    sizes={key: key for key in (*SHARED_SIZES, "hidden_act", "norm_type", "layer_norm_eps")}
    | {"qkv_bias": "attention_bias", "qk_normalization": "use_qk_norm"},
    fixed={},
    names=(
        (r"embeddings\.class_embedding", r"embeddings.cls_token"),
        (r"embeddings\.position_embedding", r"embeddings.position_embeddings"),
        (r"embeddings\.patch_embedding\.(weight|bias)", r"embeddings.patch_embeddings.projection.\1"),
        (r"encoder\.layers\.(\d+)\.attn\.qkv\.(weight|bias)", rf"encoder.layer.\1.attention.{QKV}.\2"),
        (r"encoder\.layers\.(\d+)\.attn\.proj\.(.+)", r"encoder.layer.\1.attention.projection_layer.\2"),
        (r"encoder\.layers\.(\d+)\.attn\.([qk]_norm)\.(.+)", r"encoder.layer.\1.attention.\2.\3"),
        (r"encoder\.layers\.(\d+)\.(mlp\..+)", r"encoder.layer.\1.\2"),
        (r"encoder\.layers\.(\d+)\.norm1\.(.+)", r"encoder.layer.\1.layernorm_before.\2"),
        (r"encoder\.layers\.(\d+)\.norm2\.(.+)", r"encoder.layer.\1.layernorm_after.\2"),
        (r"encoder\.layers\.(\d+)\.ls([12])", r"encoder.layer.\1.lambda_\2"),
    ),
)
# Apple's checkpoints of today have native names, older revisions and the encoders of SAIL-VL these. A flat
# `aimv2` configuration may stand beside either: native names match no rule and pass.
AIMV2 = Layout(
    config=Aimv2VisionConfig,
    sizes={key: key for key in (*SHARED_SIZES, "rms_norm_eps", "qkv_bias")} | {"use_bias": "mlp_bias"},
    fixed={"use_head": False},  # only the checkpoint with a text tower has a pooling head
    names=(
        (r"preprocessor\.patchifier\.proj\.(weight|bias)", r"embeddings.patch_embed.\1"),
        (r"preprocessor\.patchifier\.norm\.weight", r"embeddings.rms_norm.weight"),
        (r"preprocessor\.pos_embed", r"embeddings.position_embedding.weight"),
        (r"trunk\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", rf"encoder.layers.\1.attention.{QKV}.\2"),
        (r"trunk\.blocks\.(\d+)\.attn\.proj\.(.+)", r"encoder.layers.\1.attention.out_proj.\2"),
        (r"trunk\.blocks\.(\d+)\.norm_([12])\.weight", r"encoder.layers.\1.rms_norm\2.weight"),
        # down(silu(gate(x)) * up(x)) was published as fc2(silu(fc1(x)) * fc3(x))
        (r"trunk\.blocks\.(\d+)\.mlp\.fc1\.(.+)", r"encoder.layers.\1.ffn.gate_proj.\2"),
        (r"trunk\.blocks\.(\d+)\.mlp\.fc2\.(.+)", r"encoder.layers.\1.ffn.down_proj.\2"),
        (r"trunk\.blocks\.(\d+)\.mlp\.fc3\.(.+)", r"encoder.layers.\1.ffn.up_proj.\2"),
        (r"trunk\.post_trunk_norm\.weight", r"rms_norm.weight"),
    ),
)


def find_layout(config: dict) -> Layout | None:
    """The layout that a config.json announces; None where it is transformers' own."""
    if config.get("model_type") == "intern_vit_6b":
        return INTERN_VIT
    if config.get("model_type") == "aimv2" and "vision_config" not in config:
        return AIMV2  # transformers takes this for a pair of towers and would give both their default sizes
    return None


def native_config(layout: Layout, config: dict, path: str) -> PreTrainedConfig:
    """The native configuration that a published config.json describes; raises GranvitError on a size that it
    does not state."""
    missing = [key for key in layout.sizes if key not in config]
    if missing:
        raise GranvitError(
            f"encoder: {path}/config.json does not state {', '.join(missing)}; expected the config.json of "
            f"the published {config['model_type']} checkpoint. Download it again"
        )
    return layout.config(**{new: config[old] for old, new in layout.sizes.items()}, **layout.fixed)


def native_weights(layout: Layout, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under their native names, query, key and value apart."""
    renamed = {}
    for key, weight in weights.items():
        name = _rename(layout, key)
        if QKV in name:
            parts = zip(PROJECTIONS, weight.chunk(len(PROJECTIONS)), strict=True)
            renamed |= {name.replace(QKV, projection): part for projection, part in parts}
        elif name == "embeddings.position_embedding.weight":
            renamed[name] = weight.flatten(0, -2)  # (1, T, C) published, (T, C) native
        else:
            renamed[name] = weight
    return renamed


def _rename(layout: Layout, key: str) -> str:
    for pattern, name in layout.names:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(name)
    return key
