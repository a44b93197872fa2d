"""Attention maps: the same as eager attention in every family, and the right ones where they are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from factories import VISION, make_encoder
from transformers import InternVLVisionConfig, InternVLVisionModel

from granvit.config.loading import load_config
from granvit.errors import GranvitError
from granvit.models.attention_maps import PatchMaps
from granvit.models.encoders import Encoder, load_encoder

STILL = ["siglip", "clip", "aimv2", "internvl"]  # without rotary positions
SIX = ["CLIP", "SigLIP", "SigLIP2", "AIMv2", "InternViT", "SAILViT"]


def standin(name: str) -> Encoder:
    spec = load_config("mini").encoders[name]
    return load_encoder(spec.model_copy(update={"path": str(ROOT / spec.path)}))


def eager_attention(encoder: Encoder, pixels: torch.Tensor) -> torch.Tensor:
    """(B, T, T): what transformers itself returns for the layer used, without class tokens."""
    encoder.model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = encoder.model(pixels, output_attentions=True).attentions
    weights = attentions[encoder.depth_used - 1].mean(dim=1)
    weights = weights[:, encoder.family.class_tokens :, encoder.family.class_tokens :]
    return weights / weights.sum(dim=-1, keepdim=True)


def agree_with_eager(encoder: Encoder, implementation: str) -> None:
    side = encoder.spec.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    encoder.model.set_attn_implementation(implementation)
    maps = PatchMaps(encoder, pixels)
    patches = range(encoder.grid**2)
    expected = eager_attention(encoder, pixels)
    for image in range(2):
        found = maps.attention(image, patches)
        assert found.shape == (len(patches), len(patches))
        torch.testing.assert_close(found, expected[image], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(expected[0], expected[1], atol=1e-4)  # maps say something about the image


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SIX)
def test_map_of_each_of_the_six_encoders_is_the_eager_attention(name, implementation):
    agree_with_eager(standin(name), implementation)


@pytest.mark.slow  # FlexAttention is compiled first
@pytest.mark.parametrize("name", ["SigLIP2", "InternViT"])
def test_map_is_the_same_under_flex_attention(name):
    agree_with_eager(standin(name), "flex_attention")


@pytest.mark.parametrize("family", STILL)
@pytest.mark.parametrize("feature_layer", [-1, -2, 1])
def test_map_is_of_the_layer_that_gives_the_features(tmp_path, family, feature_layer):
    spec = make_encoder(tmp_path, family).model_copy(update={"feature_layer": feature_layer})
    encoder = load_encoder(spec)
    torch.manual_seed(1)
    for parameter in encoder.parameters():  # random weights attend evenly: make the layers differ
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    agree_with_eager(encoder, "sdpa")


@pytest.mark.parametrize("family", sorted({*VISION} - {*STILL}))
def test_encoder_with_rotary_positions_is_refused(tmp_path, family):
    with pytest.raises(GranvitError, match=r"turn queries and keys \(rotary positions\)"):
        PatchMaps(load_encoder(make_encoder(tmp_path, family)), torch.randn(1, 3, 32, 32))


def test_map_follows_a_layer_that_normalises_queries_and_keys(tmp_path):
    spec = make_encoder(tmp_path, "internvl")
    config = InternVLVisionConfig.from_pretrained(tmp_path, use_qk_norm=True, attention_bias=True)
    torch.manual_seed(5)
    InternVLVisionModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(spec)
    for name, parameter in encoder.named_parameters():
        if "q_norm" in name or "k_norm" in name:
            parameter.data.uniform_(0.5, 4)
    agree_with_eager(encoder, "sdpa")


def known_encoder(tmp_path: Path, family: str = "siglip") -> Encoder:
    """An encoder of 4x4 patches whose layer used has one head that sees position codes only: patch i asks
    for patch i + 1, and class tokens for nothing."""
    encoder = load_encoder(make_encoder(tmp_path, family, layers=2))
    attention = getattr(encoder.layers[encoder.depth_used - 1], encoder.family.attention)
    attention.num_heads, attention.head_dim, attention.scale = 1, 32, 1.0
    code = torch.eye(32)
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight.data.copy_(code)
        if projection.bias is not None:
            projection.bias.data.zero_()
    attention.q_proj.weight.data.copy_(code.roll(1, dims=0))  # channel i of a patch asks in channel i + 1
    return encoder


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_known_attention_gives_the_known_map(tmp_path, family, monkeypatch):
    encoder = known_encoder(tmp_path, family)
    maps = PatchMaps(encoder, torch.randn(1, 3, 32, 32))
    skipped = encoder.family.class_tokens
    codes = torch.zeros(skipped + 16, 32)
    codes[skipped:, :16] = 10 * torch.eye(16)
    maps.inputs = codes[None]
    found = maps.attention(0, [0, 6, 15])
    assert found[0].argmax() == 1 and found[1].argmax() == 7
    torch.testing.assert_close(found[0, 1], torch.tensor(1.0))
    # Nobody has the code that patch 15 asks for: it looks everywhere alike, the class token left out
    torch.testing.assert_close(found[2], torch.full((16,), 1 / 16))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))


def test_half_of_the_heads_on_one_patch_is_half_of_the_map(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path, layers=2))
    maps = PatchMaps(encoder, torch.randn(1, 3, 32, 32))
    pick = torch.nn.Identity()
    maps.layer = SimpleNamespace(q_proj=pick, k_proj=pick, head_dim=16, scale=1.0)
    codes = torch.zeros(16, 32)
    codes[0, 0] = codes[1, 0] = 20.0  # the first head of both alike, the second sees nothing anywhere
    maps.inputs, maps.class_tokens = codes[None], 0
    expected = torch.full((16,), 0.5 / 16)
    expected[:2] += 0.25
    torch.testing.assert_close(maps.attention(0, [0])[0], expected)


def test_cosine_compares_the_features_that_the_projector_receives(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path, "clip"))
    pixels = torch.randn(1, 3, 32, 32)
    maps = PatchMaps(encoder, pixels)
    with torch.no_grad():
        features = encoder(pixels)[0]
    expected = torch.cosine_similarity(features[3], features, dim=-1)
    torch.testing.assert_close(maps.cosine(0, [3, 5])[0], expected)
    assert torch.equal(maps.features[0], features)
    assert maps.cosine(0, [3])[0, 3] == pytest.approx(1)


def test_looking_changes_nothing(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path))
    pixels = torch.randn(1, 3, 32, 32)
    before = encoder(pixels)
    PatchMaps(encoder, pixels)
    assert torch.equal(before, encoder(pixels))
    assert not any(module._forward_pre_hooks for module in encoder.modules())
