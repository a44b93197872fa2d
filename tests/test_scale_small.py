"""The scale `small`: its rows, its proportions, that it fits one card, and its chain of runs from
checkpoints on disk in their published layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from factories import STAGE_TASKS, make_job, make_llm, make_mixture, make_tokenizer, make_world
from test_models_key_layouts import two_towers
from test_models_published import ENCODERS, PATHS, SPECS, language_model, vision_model
from transformers import SiglipConfig, SiglipModel

from granvit.config.plan import load_plan
from granvit.data.sources.table import read_sources
from granvit.errors import GranvitError
from granvit.graph.scale import Scale
from granvit.models.encoders import FAMILIES, Encoder
from granvit.models.mllm import MLLM, feature_width
from granvit.models.projector import Projector
from granvit.planning.amounts import Estimates
from granvit.planning.jobs import Job as Planned
from granvit.training.memory import GIB, layout_memory
from granvit.training.run import train

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def small() -> Scale:
    return Scale("small")


def test_rows_that_the_papers_list_has_too_are_the_same_and_each_says_how_to_fetch_it(small):
    papers, own = read_sources(ROOT / "config/sources.tsv"), small.sources
    shared = [name for name in own if name in papers]
    assert len(shared) == 8 and all(own[name] == papers[name] for name in shared)
    assert {source.use for source in own.values()} == {"pretrain", "projector", "sft", "continued"}
    for source in own.values():
        assert source.path == f"data/{source.name}" and source.licence and source.fetch
        assert f" {source.path}" in source.fetch, source.name


def test_every_value_says_where_it_comes_from():
    lines = (ROOT / "config/scales/small.yaml").read_text().splitlines()
    values = [(n, line) for n, line in enumerate(lines) if re.search(r": \S", line.partition("#")[0])]
    assert len(values) > 20
    for number, line in values:
        if line.startswith(("scale:", "models:")) or "sources:" in line:
            continue
        said = line.partition("#")[2] or lines[number - 1].partition("#")[2]
        assert re.match(r" (paper|convention \(|open)", said), line


def images(scale: Scale, name: str) -> float:
    """That a run looks at, each as often as it does."""
    rules = {"projector": "pretrain_projector", "stage1": "train_stage1", "stage2": "train_stage2"}
    rule = rules.get(scale.recipe(name).stage, "finetune_sft")
    return Estimates(scale, load_plan()).of(Planned(0, rule, wildcards={"recipe": name})).images


def test_pretraining_is_much_larger_than_sft_and_budgets_stand_as_the_papers(small):
    paper = Scale("paper")
    seen = images(small, "stage1-granvit")
    assert seen > 8 * images(small, "sft-granvit") and seen > 4 * images(small, "projector-siglip2")
    budgets, reported = (scale.config.data.budgets for scale in (small, paper))
    named = ["8M", "16M", "24M"]
    assert {budgets.regions(name) / reported.regions(name) for name in named} == {150_000 / 8e6}
    steps = seen / small.recipe("stage1-granvit").batch_size
    assert 2_000 < steps < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage1-granvit", "sft-granvit", "sft-clip", "sft-aimv2", "sft-sailvit"])
def test_the_largest_runs_of_table_1_fit_a_card_of_24_gib(small, name):
    """By training's own estimate."""
    recipe = small.recipe(name)
    encoder_name = PATHS[small.config.encoders[recipe.encoder].path]
    family = FAMILIES[ENCODERS[encoder_name]["config"]["model_type"]]
    encoder = Encoder(vision_model(encoder_name), family, SPECS[encoder_name])
    llm = language_model(PATHS[small.config.llms[recipe.llm].path])
    projector = Projector(feature_width(encoder, recipe.tiles), llm.config.hidden_size, recipe.tiles)
    model = MLLM(encoder, projector.to("meta"), llm, make_tokenizer())
    memory = layout_memory(model, recipe, small.config.compute.for_run(recipe), 1, False)
    assert 5 < memory["total"] / GIB < 22, memory


def test_its_stages_train_one_after_the_other_from_published_layouts_on_disk(small, tmp_path):
    """SigLIP2's two towers and a Qwen2 of random weights, with the scale's own settings."""
    world = make_world(tmp_path / "world")
    world.encoder, _ = two_towers(tmp_path / "encoder", SiglipModel, SiglipConfig)
    world.llm = make_llm(tmp_path / "llm")
    published = json.loads((tmp_path / "encoder/config.json").read_text())
    assert published["model_type"] == ENCODERS["SigLIP2-B"]["config"]["model_type"] == "siglip"
    assert "text_config" in published
    parent, losses = None, {}
    for name in ("projector-siglip2", "stage1-granvit", "stage2-granvit", "sft-granvit"):
        recipe = small.recipe(name)
        changes = {"batch_size": 4, "precision": "fp32", "epochs": 1.0, "eval_every": 0}
        if recipe.distillation:
            changes["distillation"] = recipe.distillation.model_copy(update={"crop_size": 16})
        mixture = make_mixture(tmp_path / f"{name}.parquet", 4, STAGE_TASKS[recipe.stage])
        recipe = recipe.model_copy(update=changes)
        train(make_job(world, recipe, tmp_path / name, mixture=mixture, parent_dir=parent))
        parent = tmp_path / name / "run"
        losses[name] = json.loads((parent / "manifest.json").read_text())["metrics"]["loss"]
    model = MLLM.load(parent / "model")
    assert all(0 < loss < float("inf") for loss in losses.values()) and model.image_tokens == 16
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())


def test_the_card_that_it_is_planned_for_can_be_another():
    plan = load_plan()
    assert plan.at("paper") is plan and plan.at("small").devices.name == "RTX 4090"
    assert plan.at("small", "A100").devices.tflops == 312.0
    with pytest.raises(GranvitError, match="--device: 'T4' is not a device of config/plan.yaml; known: Asc"):
        plan.at("small", "T4")
