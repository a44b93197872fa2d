"""Whole runs: what learns, what is written, and that an interrupted run ends with the same bytes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal

import pytest
import torch
from factories import VISION, make_job, make_mixture, make_recipe, make_world
from safetensors.torch import load_file

from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder
from granvit.models.mllm import MLLM
from granvit.training import run as run_module
from granvit.training.job import EXIT_SAVED
from granvit.training.loop import Trainer
from granvit.training.run import train

WRITTEN = ["manifest.json", "training_log.csv"] + [
    f"model/{p}/model.safetensors" for p in ("encoder", "projector", "llm")
]
RECIPE = make_recipe("stage1", epochs=2.0, eval_every=2)  # 5 steps of 4 images


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("world"))
    world.finished = tmp_path_factory.mktemp("finished")
    start(world, RECIPE, world.finished)
    return world


def start(world, recipe, folder, seed=0, parent=None, mixture=None, device="cpu"):
    given = {"mixture": mixture or world.mixture, "heldout": world.heldout, "parent_dir": parent}
    train(make_job(world, recipe, folder, seed=seed, device=device, **given))
    return folder / "run"


def read(folder):
    return {name: (folder / "run" / name).read_bytes() for name in WRITTEN}


def weights(run, part):
    return load_file(run / "model" / part / "model.safetensors")


def die_at(monkeypatch, step):
    """Stop the process's run as kill -9 would: nothing is saved or cleaned up."""
    original = Trainer.step

    def dying(self, number):
        if number == step:
            raise KeyboardInterrupt
        return original(self, number)

    monkeypatch.setattr(Trainer, "step", dying)


def test_run_leaves_a_whole_folder_and_its_last_state(world):
    run = world.finished / "run"
    assert {path.name for path in run.iterdir()} == {
        "manifest.json",
        "timing.json",
        "training_log.csv",
        "model",
    }
    states = [path.name for path in (world.finished / "state").iterdir()]
    assert len(states) == 1 and states[0].startswith("step-")  # until Snakemake has seen the end
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["recipe_hash"] == RECIPE.hash and manifest["metrics"]["step"] == 5
    files = {path for path in run.rglob("*") if path.is_file()}
    written = {run / "manifest.json", run / "timing.json"}
    assert {run / name for name in manifest["files"]} == files - written and len(files) > 9
    for name, described in manifest["files"].items():
        assert described["sha256"] == hashlib.sha256((run / name).read_bytes()).hexdigest()
    assert len({path.stat().st_mode for path in files}) == 1  # weights are no more private than the rest
    assert str(world.finished) not in json.dumps(manifest)
    rows = list(csv.DictReader((run / "training_log.csv").open()))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[0]["heldout_acc_iou50"] and not rows[0]["loss"] and rows[5]["heldout_rouge_l"]
    assert all(float(row["loss_distill"]) > 0 and 0 < float(row["cosine"]) <= 1 for row in rows[1:])
    assert isinstance(MLLM.load(run / "model"), MLLM)
    assert "stage1-test seed0 | step 5/5 | loss" in (world.finished / "log.txt").read_text()


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(world, tmp_path):
    start(world, RECIPE, tmp_path / "again")
    assert read(tmp_path / "again") == read(world.finished)
    start(world, RECIPE, tmp_path / "other", seed=1)
    assert read(tmp_path / "other")[WRITTEN[2]] != read(world.finished)[WRITTEN[2]]


@pytest.mark.parametrize("step", [1, 3, 4])
def test_killed_run_resumes_to_the_same_bytes(world, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        die_at(patch, step)
        start(world, RECIPE, tmp_path)
    assert not (tmp_path / "run").exists()
    start(world, RECIPE, tmp_path)
    assert read(tmp_path) == read(world.finished)


def test_run_killed_while_it_writes_its_folder_ends_the_same(world, tmp_path, monkeypatch):
    def dying(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_module, "write_outputs", dying)
        start(world, RECIPE, tmp_path)
    start(world, RECIPE, tmp_path)
    assert read(tmp_path) == read(world.finished)


def test_resume_keeps_remembered_features_exact(world, tmp_path, monkeypatch):
    mixture = make_mixture(tmp_path / "both.parquet", tasks=("caption2bbox",))
    recipe = make_recipe("stage2", epochs=2.0)
    start(world, recipe, tmp_path / "whole", mixture=mixture)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        die_at(patch, 3)
        start(world, recipe, tmp_path / "killed", mixture=mixture)
    start(world, recipe, tmp_path / "killed", mixture=mixture)
    assert read(tmp_path / "killed") == read(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_warning_signal_saves_and_exits_with_its_code(world, tmp_path, monkeypatch, number):
    original = Trainer.step

    def warned(self, step):
        if step == 2:
            os.kill(os.getpid(), number)
        return original(self, step)

    recipe = RECIPE.model_copy(update={"save_every": 1000})
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(Trainer, "step", warned)
        start(world, recipe, tmp_path)
    assert stopped.value.code == EXIT_SAVED == 85
    start(world, recipe, tmp_path)
    whole, resumed = read(world.finished), read(tmp_path)
    assert all(resumed[name] == whole[name] for name in WRITTEN[1:])


def test_state_of_another_recipe_is_refused_with_both_hashes(world, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        die_at(patch, 3)
        start(world, RECIPE, tmp_path)
    other = RECIPE.model_copy(update={"weight_decay": 0.1})
    with pytest.raises(GranvitError) as refused:
        start(world, other, tmp_path)
    assert RECIPE.hash in str(refused.value) and other.hash in str(refused.value)


def test_loss_that_is_nan_stops_before_the_weights_change_and_names_the_images(world, tmp_path, monkeypatch):
    seen = []
    original = MLLM.token_losses

    def broken(self, *arguments):
        losses = original(self, *arguments)
        seen.append({name: p.detach().clone() for name, p in self.named_parameters()})
        return losses * float("nan") if len(seen) == 3 else losses

    trainers = []
    initialise = Trainer.__init__
    monkeypatch.setattr(
        Trainer, "__init__", lambda self, *a: (initialise(self, *a), trainers.append(self))[0]
    )
    monkeypatch.setattr(MLLM, "token_losses", broken)
    recipe = RECIPE.model_copy(update={"eval_every": 0})
    with pytest.raises(GranvitError, match=r"loss is nan at step 3.*mixture-\d, mixture-\d"):
        start(world, recipe, tmp_path)
    after = dict(trainers[0].model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in seen[2].items())


def test_stage_one_moves_encoder_and_projector_only(world):
    run = world.finished / "run"
    published = load_file(f"{world.encoder.path}/model.safetensors")
    trained = weights(run, "encoder")
    moved = {name for name, value in published.items() if not torch.equal(value, trained[name])}
    assert any(name.startswith("encoder.layers.1") for name in moved)
    assert not any(name.startswith(("encoder.layers.2", "head", "post_layernorm")) for name in moved)
    same = load_file(f"{world.llm.path}/model.safetensors")
    assert all(torch.equal(value, same[name]) for name, value in weights(run, "llm").items())


def test_stages_follow_each_other_from_their_parents(world, tmp_path):
    stage1 = world.finished / "run"
    mixture = make_mixture(tmp_path / "c2b.parquet", tasks=("global_caption", "caption2bbox"))
    stage2 = start(world, make_recipe("stage2"), tmp_path / "stage2", parent=stage1, mixture=mixture)
    before, after = weights(stage1, "encoder"), weights(stage2, "encoder")
    assert all(
        torch.equal(value, after[name]) for name, value in before.items()
    )  # the trained one, and frozen
    assert any(not torch.equal(v, weights(stage2, "llm")[n]) for n, v in weights(stage1, "llm").items())
    instruction = make_mixture(tmp_path / "sft.parquet", tasks=("instruction",))
    sft = start(
        world, make_recipe("sft", precision="bf16"), tmp_path / "sft", parent=stage2, mixture=instruction
    )
    assert any(not torch.equal(v, weights(sft, "encoder")[n]) for n, v in after.items())
    assert all(value.dtype == torch.float32 for value in weights(sft, "llm").values())  # fp32 master weights


def test_tiled_run_trains_and_its_child_must_be_tiled_too(world, tmp_path):
    tiled = start(world, make_recipe("stage1", tiles=4), tmp_path / "tiled")
    assert MLLM.load(tiled / "model").tiles == 4
    with pytest.raises(GranvitError, match="tiles is 0, its parent .* with 4"):
        start(world, make_recipe("stage1"), tmp_path / "flat", parent=tiled)


@pytest.mark.parametrize("tiles", [0, 4], ids=["whole", "tiled"])
@pytest.mark.parametrize("vision", VISION)
def test_every_encoder_distils_with_crops_of_another_size(tmp_path, vision, tiles):
    recipe = make_recipe("stage1", tiles=tiles)
    world = make_world(tmp_path, vision)
    assert recipe.distillation.crop_size != world.encoder.image_size
    run = start(world, recipe, tmp_path)
    metrics = json.loads((run / "manifest.json").read_text())["metrics"]
    assert metrics["loss_distill"] > 0 and 0 < metrics["cosine"] < 1


def test_encoder_of_another_run_replaces_the_published_one(world, tmp_path):
    captions = make_mixture(tmp_path / "captions.parquet", tasks=("global_caption",))
    given = {"mixture": captions, "encoder_dir": world.finished / "run"}
    train(make_job(world, make_recipe("projector"), tmp_path, **given))
    expected, trained = (weights(run, "encoder") for run in (world.finished / "run", tmp_path / "run"))
    assert trained and trained.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in trained.items())


def test_parent_that_has_not_finished_is_named(world, tmp_path):
    with pytest.raises(GranvitError, match="nowhere"):
        start(world, make_recipe("stage2"), tmp_path, parent=tmp_path / "nowhere")


def test_gradient_norm_is_summed_in_the_order_in_which_the_parts_learn(tmp_path, monkeypatch):
    """Not in that of the vision class, which puts CLIP's first norm before its layers: a sum rounds by its
    order, and so does every number of the run."""
    world, seen = make_world(tmp_path, "clip"), []
    clip = torch.nn.utils.clip_grad_norm_

    def watched(parameters, norm):
        seen.append(list(parameters))
        return clip(parameters, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    mixture = make_mixture(tmp_path / "sft.parquet", 4, ("instruction",))
    start(world, make_recipe("sft"), tmp_path, mixture=mixture)
    encoder = load_encoder(world.encoder)
    learning = [parameter.shape for parameter in encoder.feature_parameters()]
    assert [parameter.shape for parameter in seen[0]][: len(learning)] == learning
    assert learning != [parameter.shape for parameter in encoder.parameters()][: len(learning)]
