"""The ten published models of the paper, two encoders beyond it, and those of the scale small: their classes
have the published sizes, and each encoder trains with each kind of language model.

`config/published/` holds what their authors state (no weights): the configuration, the number of parameters,
how images are normalised.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from factories import make_encoder, make_llm
from foreign_checkpoints import make_foreign_encoder, published_weights
from test_models_key_layouts import two_towers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
)

from granvit.config.loading import ENCODERS_FILE, LLMS_FILE
from granvit.config.reading import read_yaml
from granvit.config.schema import EncoderSpec, LLMSpec
from granvit.models.encoders import FAMILIES, Encoder, load_encoder
from granvit.models.key_layouts import find_layout, native_config, native_weights
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, PARTS
from granvit.models.packing import pack
from granvit.models.projector import Projector

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = {file.stem: json.loads(file.read_text()) for file in (ROOT / "config/published").glob("*.json")}
ENCODERS = {name: facts for name, facts in PUBLISHED.items() if "image_mean" in facts}
LLMS = {name: facts for name, facts in PUBLISHED.items() if name not in ENCODERS}
PATHS = {facts["checkpoint"]: name for name, facts in PUBLISHED.items()}


def listed(file: str, kind: type) -> dict:
    """The models of the two lists of published ones, by the names of their files here."""
    lists = read_yaml(Path(file))
    rows = [kind(**spec) for models in ("published", "small") for spec in lists[models].values()]
    return {PATHS[spec.path]: spec for spec in rows}


SPECS, LLM_SPECS = listed(ENCODERS_FILE, EncoderSpec), listed(LLMS_FILE, LLMSpec)


def vision_model(name: str) -> torch.nn.Module:
    """The encoder's class at its published configuration, on the meta device: no memory is taken."""
    config = ENCODERS[name]["config"]
    layout = find_layout(config)
    native = native_config(layout, config, name) if layout else AutoConfig.for_model(**config)
    with torch.device("meta"):
        return FAMILIES[config["model_type"]].model(getattr(native, "vision_config", native))


def language_model(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLMS[name]["config"]))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_facts_are_there_for_every_model_of_the_configuration():
    assert set(ENCODERS) == set(SPECS) and set(LLMS) == set(LLM_SPECS)
    assert len(ENCODERS) == 12 and len(LLMS) == 6
    for file, found in ((ENCODERS_FILE, ENCODERS), (LLMS_FILE, LLMS)):
        rows = read_yaml(Path(file))
        for name, spec in rows["published"].items():
            assert spec["path"] == found[name]["checkpoint"]
        same = [name for name in rows["small"] if rows["small"][name] == rows["published"].get(name)]
        assert same == (["AIMv2", "InternViT", "RICE", "DINOv3"] if found is ENCODERS else [])


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_has_the_published_number_of_parameters(name):
    assert count(vision_model(name)) == pytest.approx(ENCODERS[name]["parameters"], rel=0.01)


@pytest.mark.parametrize("name", LLMS)
def test_language_model_has_the_published_number_of_parameters(name):
    model, facts = language_model(name), LLMS[name]
    assert count(model) == pytest.approx(facts["parameters"], rel=0.01)
    if "parameters_without_embeddings" in facts:
        tables = {
            id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())
        }
        rest = count(model) - sum(table.numel() for table in tables.values())
        assert rest == pytest.approx(facts["parameters_without_embeddings"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("CLIP", 576),
        ("SigLIP", 729),
        ("SigLIP2", 1024),
        ("AIMv2", 576),
        ("InternViT", 1024),
        ("SAILViT", 1024),
        ("RICE", 1600),
        ("DINOv3", 1024),
        ("CLIP-B", 196),
        ("SigLIP-B", 1024),
        ("SigLIP2-B", 1024),
        ("SAILViT-L", 1024),
    ],
)
def test_configured_encoder_looks_at_images_as_its_checkpoint_did(name, tokens):
    spec, facts = SPECS[name], ENCODERS[name]
    model = vision_model(name)
    for key in ("patch_size",) if name == "DINOv3" else ("image_size", "patch_size"):  # its positions fit any
        size = getattr(model.config, key)
        assert getattr(spec, key) == (size if isinstance(size, int) else size[0])
    assert (spec.mean, spec.std) == (facts["image_mean"], facts["image_std"])
    assert spec.tokens == tokens and spec.feature_layer == -2
    encoder = Encoder(model, FAMILIES[facts["config"]["model_type"]], spec)
    features = encoder(torch.empty(1, 3, spec.image_size, spec.image_size, device="meta"))
    assert features.shape == (1, tokens, model.config.hidden_size)


@pytest.mark.parametrize(("name", "keys"), [("InternViT", 4 + 24 * 14), ("SAILViT", 5 + 24 * 7)])
def test_published_key_list_becomes_every_native_key_at_full_size(name, keys):
    model = vision_model(name)
    published = published_weights("intern_vit" if name == "InternViT" else "aimv2", model)
    assert len(published) == keys
    native = native_weights(find_layout(ENCODERS[name]["config"]), published)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in native.items()} == shapes


def tiny_encoder(name: str, folder: Path):
    """A random encoder on disk, in the layout that the hub has for ``name``."""
    name = name.partition("-")[0]
    if name == "CLIP":
        return two_towers(folder, CLIPModel, CLIPConfig)[0]
    if name in ("SigLIP", "SigLIP2"):
        return two_towers(folder, SiglipModel, SiglipConfig)[0]
    if name in ("AIMv2", "RICE", "DINOv3"):
        return make_encoder(folder, {"AIMv2": "aimv2", "RICE": "mlcd", "DINOv3": "dinov3"}[name])
    return make_foreign_encoder(folder, "intern_vit" if name == "InternViT" else "aimv2")


@pytest.mark.parametrize("language", ["qwen2", "llama"])
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_trains_a_step_with_every_kind_of_language_model(tmp_path, name, language):
    encoder = load_encoder(tiny_encoder(name, tmp_path / "encoder"))
    spec = make_llm(tmp_path / "llm", language)
    torch.manual_seed(0)
    model = MLLM(encoder, Projector(encoder.width, 32), load_llm(spec), load_tokenizer(spec)).train()
    learning = {part: list(getattr(model, part).parameters()) for part in PARTS}
    learning["encoder"] = encoder.feature_parameters()
    before = {part: [p.detach().clone() for p in parameters] for part, parameters in learning.items()}
    optimizer = torch.optim.AdamW([p for part in learning.values() for p in part], 1e-3)
    pairs = [("Describe the image.", "red square"), ("Describe [0.1, 0.2, 0.3, 0.4]", "blue ring")]
    packed = pack([[model.chat.segment(*pair) for pair in pairs]], model.chat, model.image_tokens)
    loss = model.token_losses(model.encode_images(torch.randn(1, 3, 32, 32)), packed).mean()
    loss.backward()
    optimizer.step()
    assert 0 < float(loss.detach()) < float("inf")
    for part, parameters in learning.items():
        for old, new in zip(before[part], parameters, strict=True):
            assert not torch.equal(old, new) and bool(torch.isfinite(new).all()), part
