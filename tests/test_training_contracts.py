"""Each stage's contract: exactly the parts that should learn do, and the teacher follows its formula."""

from __future__ import annotations

import sys
import threading

import pytest
import torch
from factories import make_job, make_mixture, make_mixtures, make_recipe, make_world
from safetensors.torch import load_file

from granvit.training.engine import Cluster
from granvit.training.run import assemble, make_trainer, train

PARTS = ("encoder", "projector", "llm")
BEHIND_THE_FEATURES = ("encoder.layers.2", "post_layernorm", "head")
CONTRACTS = {
    "projector": ("projector", {}, {"projector"}),
    "stage 1": ("stage1", {}, {"encoder", "projector"}),
    "stage 1 without distillation (Table 3)": ("stage1", {"distillation": None}, {"encoder", "projector"}),
    "stage 1 with both tasks (Fig. 4)": ("stage1", {"mixture": "both"}, {"encoder", "projector"}),
    "stage 1 with tiles (Table 8)": ("stage1", {"tiles": 4}, {"encoder", "projector"}),
    "stage 2": ("stage2", {}, {"projector", "llm"}),
    "stage 2 with the encoder tuned (Table 9)": (
        "stage2",
        {"trains": {"encoder": True, "projector": True, "llm": True}},
        {"encoder", "projector", "llm"},
    ),
    "SFT": ("sft", {}, {"encoder", "projector", "llm"}),
    "SFT with the encoder frozen (Table 10)": (
        "sft",
        {"trains": {"encoder": False, "projector": True, "llm": True}},
        {"projector", "llm"},
    ),
    "continued pretraining": ("continued", {}, {"encoder", "projector", "llm"}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("world"))
    folder = tmp_path_factory.mktemp("mixtures")
    both = make_mixture(folder / "both.parquet", tasks=("global_caption", "bbox2caption", "caption2bbox"))
    world.mixtures = {**make_mixtures(folder), "both": both}
    return world


@pytest.mark.parametrize("contract", CONTRACTS)
def test_stage_changes_exactly_the_parts_that_it_should(world, tmp_path, contract):
    stage, changes, learns = CONTRACTS[contract]
    recipe = make_recipe(stage, **changes)
    mixture = world.mixtures.get(recipe.mixture, world.mixtures[stage])
    job = make_job(world, recipe, tmp_path, mixture=mixture)
    torch.manual_seed(0)  # as the run does: a fresh projector of the same bits
    before = assemble(job)
    train(job)
    starts = {
        "encoder": before.encoder.model.state_dict(),
        "projector": before.projector.state_dict(),
        "llm": before.llm.state_dict(),
    }
    for part in PARTS:
        trained = load_file(tmp_path / f"run/model/{part}/model.safetensors")
        same = {name for name, value in trained.items() if value.equal(starts[part][name])}
        assert trained, part
        if part not in learns:
            assert same == trained.keys(), part
        elif part == "encoder":
            assert same == {name for name in trained if name.startswith(BEHIND_THE_FEATURES)}
        else:
            assert not same, part


@pytest.mark.parametrize("decay", [0.9, 0.99])
def test_teacher_follows_its_formula_over_three_steps(world, tmp_path, decay):
    recipe = make_recipe("stage1")
    distillation = recipe.distillation.model_copy(update={"ema_decay": decay})
    recipe = recipe.model_copy(update={"distillation": distillation})
    job = make_job(world, recipe, tmp_path, mixture=world.mixtures["stage1"])
    model = assemble(job)
    trainer = make_trainer(job, model, Cluster("cpu", "ddp", recipe))
    name = "model.encoder.layers.0.mlp.fc1.weight"
    expected = model.encoder.state_dict()[name].clone()
    for step in range(3):
        trainer.step(step)
        student = model.encoder.state_dict()[name]
        expected = decay * expected + (1 - decay) * student
        teacher = trainer.teacher.encoder.state_dict()[name]
        assert teacher.dtype == torch.float32
        torch.testing.assert_close(teacher, expected, rtol=1e-6, atol=1e-8)
        assert not teacher.equal(student)


def test_threads_that_wait_for_pythons_lock_get_it_before_the_ranks_part(monkeypatch):
    """gloo's do, to let go of tensors; DDP waits for them with the lock taken."""
    asked, seen = threading.Event(), []
    waiting = threading.Thread(target=lambda: (asked.wait(), seen.append("thread")))
    waiting.start()
    cluster = Cluster("cpu", "ddp", None)
    monkeypatch.setattr(cluster, "size", 2)
    monkeypatch.setattr(cluster.accelerator, "end_training", lambda: seen.append("end"))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # this thread keeps the lock unless it gives it away
    try:
        asked.set()
        cluster.close()
    finally:
        sys.setswitchinterval(interval)
    waiting.join()
    assert seen == ["thread", "end"]
