"""Memory of a step: the estimate is what autograd keeps, and a run that cannot fit is refused before it
starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from factories import make_job, make_mixture, make_recipe, make_tokenizer, make_world
from test_models_packing import make_model
from test_models_published import ENCODERS, SPECS, language_model, vision_model

from granvit.config.compute import RunCompute
from granvit.config.loading import load_config
from granvit.config.recipes import resolve_recipe
from granvit.errors import GranvitError
from granvit.models.encoders import FAMILIES, Encoder
from granvit.models.mllm import MLLM, feature_width
from granvit.models.packing import Segment, pack
from granvit.models.projector import Projector
from granvit.training.cost import Work, training_memory
from granvit.training.memory import GIB, layout_memory, require_memory
from granvit.training.optimizer import freeze_all_but
from granvit.training.run import train

ROOT = Path(__file__).resolve().parents[1]
IMAGES, TEXT, ANSWER = 4, 600, 400  # most of it text, so that what stands beside the layers is little
WORK = Work(("projector",), 0, caption=(TEXT - ANSWER, ANSWER))


def kept_bytes(model, checkpointing: bool) -> int:
    """Bytes of all that a real forward pass in bf16 leaves for its backward pass, weights apart: what is
    freed once the loss is forgotten."""
    if checkpointing:
        model.enable_gradient_checkpointing()
    own = {p.untyped_storage()._cdata for p in [*model.parameters(), *model.buffers()]}
    segment = Segment([1] * TEXT, ANSWER)
    chat = model.chat
    packed = pack([[segment]] * IMAGES, chat, model.image_tokens - len(chat.before_image + chat.after_image))
    embeddings = torch.randn(IMAGES, packed.image_places.numel() // IMAGES, 32)
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
        model.token_losses(model.projector(embeddings), packed).sum()
    return sum(kept.values())


@pytest.mark.parametrize("learns", [("projector",), ("projector", "llm")])
def test_estimated_activations_are_what_autograd_keeps(tmp_path, learns):
    model = make_model(tmp_path)
    freeze_all_but(model, learns)
    work = Work(learns, 0, caption=WORK.caption)
    estimate = training_memory(model, work, IMAGES)
    assert estimate["activations"] == pytest.approx(kept_bytes(model, False), rel=0.05)
    learning = sum(p.numel() for part in learns for p in getattr(model, part).parameters())
    assert estimate["gradients"] == 4 * learning and estimate["optimizer"] == 8 * learning


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer(tmp_path):
    model = make_model(tmp_path)
    freeze_all_but(model, ("projector",))
    whole, twice = (
        training_memory(model, WORK, IMAGES, checkpointing=on)["activations"] for on in (False, True)
    )
    outside = kept_bytes(model, True)  # the hooks of a checkpoint hide what is in the layers
    positions = IMAGES * (model.image_tokens + TEXT)
    inputs, layers = 4 * 32 * positions, len(model.llm.model.layers)
    a_layer = (whole - outside) / layers
    assert twice == pytest.approx(outside + layers * inputs + a_layer, rel=0.1)
    assert twice < 0.8 * whole


def layout(model, stage="stage1", ranks=1, half=False, **compute) -> dict[str, float]:
    return layout_memory(model, make_recipe(stage), RunCompute(**compute), ranks, half)


def test_layout_counts_what_each_device_keeps(tmp_path):
    model = make_model(tmp_path)
    one = layout(model, "sft")
    zero2, zero3 = (layout(model, "sft", 4, sharding=sharding) for sharding in ("zero2", "zero3"))
    assert zero2["optimizer"] == one["optimizer"] / 4 and zero2["weights"] == one["weights"]
    assert zero3["weights"] == one["weights"] / 4 and zero3["gradients"] == one["gradients"] / 4
    assert layout(model, "sft", 4)["gradients"] == 2 * one["gradients"]  # and DDP's buckets
    assert layout(model, tokens_per_batch=1200)["activations"] < 0.6 * layout(model)["activations"]
    assert layout(model, half=True)["weights"] < layout(model)["weights"]
    for memory in (one, zero2, zero3):
        assert memory["total"] == sum(size for name, size in memory.items() if name != "total")


def test_layout_that_cannot_fit_says_which_settings_would(tmp_path):
    model, recipe = make_model(tmp_path), make_recipe("stage1", batch_size=8)
    needed = layout_memory(model, recipe, RunCompute(), 1, False)["total"] / GIB
    require_memory(model, recipe, RunCompute(device_memory=1.01 * needed), 1)
    require_memory(model, recipe, RunCompute(), 1)
    with pytest.raises(GranvitError) as raised:
        require_memory(model, recipe, RunCompute(device_memory=0.6 * needed), 1)
    text = str(raised.value)
    assert text.startswith("compute.device_memory: stage1-test needs about") and "\n" not in text
    assert "set compute.tokens_per_batch: " in text and "GiB)" in text
    tokens = int(text.split("tokens_per_batch: ")[1].split()[0])
    require_memory(model, recipe, RunCompute(device_memory=0.6 * needed, tokens_per_batch=tokens), 1)
    with pytest.raises(GranvitError, match="no setting of compute is enough: take more devices"):
        require_memory(model, recipe, RunCompute(device_memory=1e-6), 1)


def test_run_that_cannot_fit_is_refused_before_its_first_step(tmp_path):
    world = make_world(tmp_path)
    mixture = make_mixture(tmp_path / "m.parquet")
    compute = RunCompute(device_memory=1e-6)
    with pytest.raises(GranvitError, match="compute.device_memory"):
        train(make_job(world, make_recipe("stage1"), tmp_path, mixture=mixture, compute=compute))
    assert not (tmp_path / "run").exists() and not (tmp_path / "state").exists()


@pytest.mark.parametrize("profile", ["gpu", "npu"])
@pytest.mark.parametrize("name", ["sft-sailvit-tiled", "sft-sailvit-3b"])
def test_largest_recipes_fit_the_devices_of_the_profiles(profile, name):
    changes = yaml.safe_load((ROOT / "profiles" / profile / "compute.yaml").read_text())
    config = load_config("paper", changes, ROOT)
    recipe = resolve_recipe(config, name, ROOT)
    family = FAMILIES[ENCODERS[recipe.encoder]["config"]["model_type"]]
    encoder = Encoder(vision_model(recipe.encoder), family, SPECS[recipe.encoder])
    llm = language_model(recipe.llm)
    projector = Projector(feature_width(encoder, recipe.tiles), llm.config.hidden_size, recipe.tiles)
    model = MLLM(encoder, projector.to("meta"), llm, make_tokenizer())
    compute = config.compute.for_run(recipe)
    assert compute.device_memory in (64, 79)
    memory = layout_memory(model, recipe, compute, config.compute.train_accelerators, False)
    assert 0.3 * compute.device_memory < memory["total"] / GIB < 0.95 * compute.device_memory
