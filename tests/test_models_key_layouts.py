"""Checkpoints in the layouts of their authors: the same features from the native class, or a refusal by
name."""

from __future__ import annotations

import json

import pytest
import torch
from foreign_checkpoints import (
    AIMV2,
    INTERN_VIT,
    make_foreign_encoder,
    published_weights,
    random_model,
    write_checkpoint,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from granvit.config.schema import EncoderSpec
from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder, load_saved_encoder

LAYOUTS = ("intern_vit", "aimv2")
CONFIGS = {"intern_vit": INTERN_VIT, "aimv2": AIMV2}
# One layer as OpenGVLab/InternViT-300M-448px and Apple's AIMv2 (also inside SAIL-VL) publish it.
LAYER_KEYS = {
    "intern_vit": """
        encoder.layers.0.attn.proj.bias encoder.layers.0.attn.proj.weight
        encoder.layers.0.attn.qkv.bias encoder.layers.0.attn.qkv.weight
        encoder.layers.0.ls1 encoder.layers.0.ls2
        encoder.layers.0.mlp.fc1.bias encoder.layers.0.mlp.fc1.weight
        encoder.layers.0.mlp.fc2.bias encoder.layers.0.mlp.fc2.weight
        encoder.layers.0.norm1.bias encoder.layers.0.norm1.weight
        encoder.layers.0.norm2.bias encoder.layers.0.norm2.weight""",
    "aimv2": """
        trunk.blocks.0.attn.proj.weight trunk.blocks.0.attn.qkv.weight
        trunk.blocks.0.mlp.fc1.weight trunk.blocks.0.mlp.fc2.weight trunk.blocks.0.mlp.fc3.weight
        trunk.blocks.0.norm_1.weight trunk.blocks.0.norm_2.weight""",
}
OUTER_KEYS = {
    "intern_vit": """embeddings.class_embedding embeddings.patch_embedding.bias
        embeddings.patch_embedding.weight embeddings.position_embedding""",
    "aimv2": """preprocessor.patchifier.norm.weight preprocessor.patchifier.proj.bias
        preprocessor.patchifier.proj.weight preprocessor.pos_embed trunk.post_trunk_norm.weight""",
}
PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


@torch.no_grad()
def native_features(model):
    return model(PIXELS, output_hidden_states=True).hidden_states[-2][:, -16:]


@torch.no_grad()
def loaded_features(spec):
    return load_encoder(spec)(PIXELS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layout_gives_the_features_of_the_native_model_bit_for_bit(tmp_path, layout):
    spec = make_foreign_encoder(tmp_path, layout)
    written = set(load_file(tmp_path / "model.safetensors"))
    outer = {key for key in written if ".layers." not in key and ".blocks." not in key}
    assert {key for key in written if ".0." in key} == set(LAYER_KEYS[layout].split())
    assert outer == set(OUTER_KEYS[layout].split())
    assert torch.equal(loaded_features(spec), native_features(random_model(layout)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_give_the_same_features_and_a_lost_shard_is_named(tmp_path, layout):
    spec = make_foreign_encoder(tmp_path, layout)
    whole = loaded_features(spec)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    shards = {key: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, key in enumerate(weights)}
    for shard in set(shards.values()):
        save_file({key: weights[key] for key in weights if shards[key] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert torch.equal(loaded_features(spec), whole)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(GranvitError, match=r"model-00002-of-00002\.safetensors.*Download"):
        load_encoder(spec)


@pytest.mark.parametrize(
    ("layout", "lost", "native"),
    [
        ("intern_vit", "encoder.layers.1.attn.qkv.bias", "encoder.layer.1.attention.k_proj.bias"),
        ("intern_vit", "encoder.layers.2.ls2", "encoder.layer.2.lambda_2"),
        ("intern_vit", "embeddings.position_embedding", "embeddings.position_embeddings"),
        ("aimv2", "trunk.blocks.2.mlp.fc3.weight", "encoder.layers.2.ffn.up_proj.weight"),
        ("aimv2", "preprocessor.pos_embed", "embeddings.position_embedding.weight"),
    ],
)
def test_checkpoint_without_a_weight_is_refused_by_its_name(tmp_path, layout, lost, native):
    weights = published_weights(layout, random_model(layout))
    del weights[lost]
    with pytest.raises(GranvitError, match=f"missing .*{native}"):
        load_encoder(write_checkpoint(tmp_path, CONFIGS[layout], weights))


@pytest.mark.parametrize(
    ("layout", "extra"),
    [
        ("intern_vit", "head.weight"),
        ("intern_vit", "encoder.layers.3.ls1"),
        ("aimv2", "head.cls_token"),
        ("aimv2", "trunk.blocks.0.attn.q_norm.weight"),
        ("aimv2", "vision_model.preprocessor.pos_embed"),
    ],
)
def test_checkpoint_with_a_weight_nobody_knows_is_refused_by_its_name(tmp_path, layout, extra):
    weights = published_weights(layout, random_model(layout)) | {extra: torch.zeros(32)}
    name = extra.replace("layers.3.ls1", "layer.3.lambda_1")
    with pytest.raises(GranvitError, match=f"1 weights .* unexpected .*{name}"):
        load_encoder(write_checkpoint(tmp_path, CONFIGS[layout], weights))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoint_of_another_input_size_is_refused_by_its_position_embedding(tmp_path, layout):
    config = CONFIGS[layout] | {"image_size": 64}
    weights = published_weights(layout, random_model(layout))
    spec = write_checkpoint(tmp_path, config, weights).model_copy(update={"image_size": 64})
    with pytest.raises(GranvitError, match="of another shape .*position_embedding"):
        load_encoder(spec)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_config_that_leaves_a_size_out_is_refused_and_no_default_is_taken(tmp_path, layout):
    config = {key: value for key, value in CONFIGS[layout].items() if key != "image_size"}
    spec = write_checkpoint(tmp_path, config, published_weights(layout, random_model(layout)))
    with pytest.raises(GranvitError, match=r"config\.json does not state image_size"):
        load_encoder(spec)


def test_flat_aimv2_config_beside_native_names_keeps_its_own_sizes(tmp_path):
    model = random_model("aimv2")
    spec = write_checkpoint(tmp_path, AIMV2, dict(model.state_dict()))
    assert torch.equal(loaded_features(spec), native_features(model))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exported_foreign_encoder_is_a_native_one(tmp_path, layout):
    encoder = load_encoder(make_foreign_encoder(tmp_path / "published", layout))
    encoder.save(tmp_path / "exported")
    exported = load_saved_encoder(tmp_path / "exported")
    assert type(exported.model) is type(encoder.model)
    assert json.loads((tmp_path / "exported/config.json").read_text())["model_type"].endswith(
        ("internvl_vision", "aimv2_vision_model")
    )
    with torch.no_grad():
        assert torch.equal(exported(PIXELS), encoder(PIXELS))


def test_model_of_an_unknown_type_is_refused_without_running_its_code(tmp_path):
    config = INTERN_VIT | {"model_type": "somebody_else", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(GranvitError, match="model_type 'somebody_else'; expected one of .*intern_vit_6b"):
        load_encoder(write_checkpoint(tmp_path, config, {"weight": torch.zeros(1)}))


def two_towers(folder, model_class, config_class) -> tuple[EncoderSpec, torch.nn.Module]:
    sizes = {key: AIMV2[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers",
                                         "num_attention_heads")}  # fmt: skip
    config = config_class(
        text_config=sizes | {"vocab_size": 50, "max_position_embeddings": 8},
        vision_config=sizes | {"image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(4)
    model = model_class(config).eval()
    model.save_pretrained(folder)
    spec = EncoderSpec(path=str(folder), image_size=32, patch_size=8, mean=[0.5] * 3, std=[0.5] * 3)
    return spec, model


@pytest.mark.parametrize(
    ("model_class", "config_class"), [(CLIPModel, CLIPConfig), (SiglipModel, SiglipConfig)]
)
def test_vision_tower_is_read_out_of_a_checkpoint_with_a_text_tower(tmp_path, model_class, config_class):
    spec, model = two_towers(tmp_path, model_class, config_class)
    assert torch.equal(loaded_features(spec), native_features(model.vision_model))


def test_vision_tower_that_lacks_a_weight_is_refused_though_the_text_tower_is_there(tmp_path):
    spec, _ = two_towers(tmp_path, SiglipModel, SiglipConfig)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["vision_model.encoder.layers.1.mlp.fc1.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(GranvitError, match=r"missing .*encoder\.layers\.1\.mlp\.fc1\.bias"):
        load_encoder(spec)


def test_clip_as_openai_published_it_is_read(tmp_path):
    """openai/clip-vit-large-patch14-336 has a .bin only, and position ids among its weights."""
    spec, model = two_towers(tmp_path, CLIPModel, CLIPConfig)
    (tmp_path / "model.safetensors").unlink()
    weights = model.state_dict() | {
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
        "text_model.embeddings.position_ids": torch.arange(8)[None],
    }
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert torch.equal(loaded_features(spec), native_features(model.vision_model))


class Hub:
    """Stands in for the hub's client: every file of ``folder`` can be had, nothing else is reached."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def file(self, repository: str, filename: str) -> str:
        return str(self.folder / filename)

    def snapshot(self, repository: str, allow_patterns: list[str]) -> str:
        assert allow_patterns == ["config.json", "*.safetensors", "model.safetensors.index.json"]
        return str(self.folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hub_id_gives_the_features_of_its_files_without_any_of_its_code(tmp_path, monkeypatch, layout):
    spec, hub = make_foreign_encoder(tmp_path, layout), Hub(tmp_path)
    monkeypatch.setattr("granvit.models.loading.hf_hub_download", hub.file)
    monkeypatch.setattr("granvit.models.loading.snapshot_download", hub.snapshot)
    named = spec.model_copy(update={"path": "owner/name"})
    assert torch.equal(loaded_features(named), native_features(random_model(layout)))


def test_hub_that_cannot_be_reached_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = EncoderSpec(path="owner/name", image_size=32, patch_size=8, mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(GranvitError, match=r"owner/name.*hub.*config/encoders\.yaml"):
        load_encoder(spec)
