"""How a run is laid out on its device changes nothing that it learns; what is broken is skipped by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from factories import STAGE_TASKS, make_job, make_mixture, make_recipe, make_world
from test_models_packing import PAIRS, losses_of, make_model

from granvit.config.compute import RunCompute
from granvit.errors import GranvitError
from granvit.models.attention import choose_attention, flex_mask
from granvit.models.mllm import MLLM
from granvit.models.packing import row_length, segment_mask, split_row
from granvit.training import examples
from granvit.training.batches import Batches, Order, Samples, Share
from granvit.training.examples import Examples, Mixture
from granvit.training.images import ImageStore
from granvit.training.loop import Trainer
from granvit.training.objective import Objective, Totals
from granvit.training.optimizer import freeze_all_but
from granvit.training.run import train


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("world"))
    world.captions = make_mixture(world.mixture.with_name("captions.parquet"), tasks=("global_caption",))
    world.whole = start(world, tmp_path_factory.mktemp("whole"))
    return world


def start(world, folder, stage="stage1", mixture=None, compute=None, **changes) -> dict:
    """Train; the manifest."""
    recipe = make_recipe(stage, epochs=2.0, **changes)
    given = {"mixture": mixture or world.mixture, "compute": compute or RunCompute()}
    train(make_job(world, recipe, folder, **given))
    return json.loads((folder / "run/manifest.json").read_text())


def read_samples(mixture: Mixture, model) -> Samples:
    tasks = ("global_caption", "bbox2caption")
    return Samples(Examples(mixture, model, tasks, False), ImageStore(mixture, model, False))


def spoil(mixture: Path, *numbers: int) -> Path:
    """Overwrite the bytes of some images of a mixture."""
    rows = Mixture(mixture)
    with open(mixture.with_suffix(".tar"), "r+b") as file:
        for number in numbers:
            file.seek(rows.row(number)["offset"] + 4)
            file.write(b"\0" * (rows.row(number)["size"] - 4))
    return mixture


@pytest.mark.parametrize(
    "compute",
    [
        RunCompute(tokens_per_batch=1),
        RunCompute(tokens_per_batch=400),
        RunCompute(gradient_checkpointing=True),
        RunCompute(data_workers=2),
    ],
    ids=["question by question", "two or three images", "activations twice", "workers"],
)
def test_layout_on_the_device_changes_no_loss(world, tmp_path, compute):
    metrics = start(world, tmp_path, compute=compute)["metrics"]
    assert metrics == pytest.approx(world.whole["metrics"], rel=1e-5)


@pytest.mark.parametrize("stage", ["projector", "stage1", "stage2"])
def test_activations_are_computed_twice_where_asked_frozen_llm_and_evaluation_or_not(
    world, tmp_path, stage, monkeypatch
):
    """Gradients go through a frozen LLM to the projector, which keeps as much as one that learns."""
    trainers, calls = [], []
    initialise = Trainer.__init__

    def watched(self, model, *rest):
        initialise(self, model, *rest)
        trainers.append(self)
        for name, layer in (("encoder", model.encoder.layers[0]), ("llm", model.llm.model.layers[0])):
            layer.mlp.register_forward_pre_hook(
                lambda *_, name=name: calls.append(name) if torch.is_grad_enabled() else None
            )

    monkeypatch.setattr(Trainer, "__init__", watched)
    mixture = make_mixture(tmp_path / "m.parquet", 4, STAGE_TASKS[stage])
    recipe = make_recipe(stage, eval_every=1)
    compute = RunCompute(gradient_checkpointing=True)
    train(make_job(world, recipe, tmp_path, mixture=mixture, heldout=world.heldout, compute=compute))
    assert trainers[0].steps == 1
    assert [calls.count(part) for part in ("encoder", "llm")] == [2 if recipe.trains.encoder else 0, 2]


def test_dropout_of_a_frozen_llm_stays_out(tmp_path):
    model = make_model(tmp_path)
    freeze_all_but(model, ("encoder", "projector"))
    layer = model.llm.model.layers[0]
    assert layer.training and not any(module.training for module in layer.children())


@pytest.mark.parametrize("joined", [False, True], ids=["a row an image", "one row"])
def test_micro_batches_hold_every_image_once_and_no_more_positions_than_allowed(tmp_path, joined):
    model, mixture = make_model(tmp_path), Mixture(make_mixture(tmp_path / "m.parquet"))
    share = Share(token_budget=512, joined=joined)
    micros = Batches(read_samples(mixture, model), Order(10, 1, 10, 0), model, share=share)[0].micros
    assert len(micros) > 2
    assert sorted(row for micro in micros for row in micro.rows) == list(range(10))
    assert all(micro.packed.position_ids.numel() <= 512 for micro in micros)
    assert all((len(micro.packed.ids) == 1) == joined for micro in micros if len(micro.rows) > 1)


@pytest.mark.parametrize("joined", [False, True], ids=["a row an image", "one row"])
@pytest.mark.parametrize("tiles", [0, 4])
def test_page_too_long_for_a_row_is_split_and_teaches_the_same(tmp_path, tiles, joined):
    model, recipe = make_model(tmp_path, tiles=tiles), make_recipe("stage1")
    mixture = Mixture(make_mixture(tmp_path / "page.parquet", 2, regions=6))
    given = read_samples(mixture, model), Order(2, 1, 2, 0), model, recipe.distillation

    def learn(budget: int):
        batch = Batches(*given, Share(token_budget=budget, joined=joined))[0]
        counts = [sum(column) for column in zip(*(micro.counts() for micro in batch.micros), strict=True)]
        objective, sums = Objective(model, recipe, None), {}
        model.zero_grad()
        for micro in batch.micros:
            loss, metrics = objective(micro, Totals(*counts))
            loss.backward()
            sums = {name: sums.get(name, 0) + float(value.detach()) for name, value in metrics.items()}
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return batch, counts, sums, found

    whole, split = learn(1 << 30), learn(200)
    assert len(whole[0].micros) == 1 and len(split[0].micros) > 2
    assert max(micro.packed.ids.numel() for micro in whole[0].micros) > 200
    for micro in split[0].micros:
        assert (micro.packed.segments >= 0).sum() <= 200
    assert split[0].keys == whole[0].keys and split[1][:2] == whole[1][:2] and whole[1][1] == 4
    for name in ("loss", "loss_caption", "loss_distill", "cosine"):
        assert split[2][name] == pytest.approx(whole[2][name], rel=1e-5)
    assert split[3].keys() == whole[3].keys()
    for name, value in split[3].items():
        torch.testing.assert_close(value, whole[3][name], rtol=1e-3, atol=1e-6, msg=name)


def test_row_is_split_between_questions_only(tmp_path):
    model = make_model(tmp_path)
    segments = [model.chat.segment(f"What is {number}?", "bread " * number) for number in range(1, 9)]
    prefix = row_length([], model.chat, model.image_tokens)
    rows = split_row(segments, model.chat, model.image_tokens, prefix + 100)
    assert [segment for row in rows for segment in row] == segments and 1 < len(rows) < 8
    assert all(row_length(row, model.chat, model.image_tokens) <= prefix + 100 for row in rows)
    assert split_row(segments, model.chat, model.image_tokens, 1) == [[segment] for segment in segments]


def test_ranks_share_a_step_without_leaving_or_doubling_an_image(tmp_path):
    model, mixture = make_model(tmp_path), Mixture(make_mixture(tmp_path / "m.parquet"))
    samples = read_samples(mixture, model)
    order = Order(10, 1, 4, 0)
    assert order.steps == 3
    for step in range(order.steps):
        shares = [Batches(samples, order, model, share=Share(rank, 3))[step] for rank in range(3)]
        rows = [row for share in shares for micro in share.micros for row in micro.rows]
        assert sorted(rows) == sorted(order.rows(step))


@pytest.mark.parametrize("stage", ["stage1", "projector"])
def test_unreadable_image_is_skipped_counted_and_named(world, tmp_path, stage):
    tasks = ("global_caption", "bbox2caption") if stage == "stage1" else ("global_caption",)
    mixture = spoil(make_mixture(tmp_path / "spoilt.parquet", tasks=tasks), 3, 7)
    manifest = start(world, tmp_path, stage, mixture, RunCompute(max_skipped_share=0.5))
    assert manifest["skipped"] == {"corrupt_image": 4}  # two images in each of two epochs
    log = (tmp_path / "log.txt").read_text()
    assert "image spoilt-3 skipped: corrupt_image" in log and "spoilt-7" in log and "spoilt-4" not in log
    assert manifest["metrics"]["step"] == 5 and math.isfinite(manifest["metrics"]["loss"])


def test_too_many_unreadable_images_stop_the_run(world, tmp_path):
    mixture = spoil(make_mixture(tmp_path / "spoilt.parquet"), *range(8))
    with pytest.raises(
        GranvitError, match=r"images could not be read .* compute\.max_skipped_share \(0\.1\)"
    ):
        start(world, tmp_path, mixture=mixture, compute=RunCompute(max_skipped_share=0.1))


def test_step_without_any_readable_image_is_taken_and_teaches_nothing(world, tmp_path):
    mixture = spoil(make_mixture(tmp_path / "spoilt.parquet"), *range(10))
    manifest = start(world, tmp_path, mixture=mixture, compute=RunCompute(max_skipped_share=1.0))
    assert manifest["skipped"] == {"corrupt_image": 20} and manifest["metrics"]["loss"] == 0


def test_loss_that_is_nan_is_passed_over_and_named_until_it_comes_too_often(world, tmp_path, monkeypatch):
    original, calls = MLLM.token_losses, []

    def broken(self, *arguments):
        calls.append(len(calls) + 1)
        return original(self, *arguments) * (math.nan if calls[-1] in bad else 1.0)

    monkeypatch.setattr(MLLM, "token_losses", broken)
    bad = {2, 3}
    manifest = start(world, tmp_path / "passed", compute=RunCompute(max_bad_steps=3))
    log = (tmp_path / "passed/log.txt").read_text()
    assert "loss is nan at step 2; this step changed nothing. Images of the batch: mixture-" in log
    assert "at step 3" in log and "at step 4;" not in log and math.isfinite(manifest["metrics"]["loss"])
    bad, calls[:] = {2, 3, 4}, []
    with pytest.raises(
        GranvitError, match=r"nan at step 4; .*3 such steps in a row \(compute\.max_bad_steps\)"
    ):
        start(world, tmp_path / "stopped", compute=RunCompute(max_bad_steps=3))


def test_large_mixture_is_mapped_from_a_copy_with_the_same_rows(tmp_path, monkeypatch):
    path = make_mixture(tmp_path / "m.parquet")
    read = Mixture(path)
    monkeypatch.setattr(examples, "MEMORY_LIMIT", 0)
    mapped = Mixture(path, tmp_path / "state")
    assert (tmp_path / "state/m.arrow").is_file() and len(mapped) == len(read)
    assert [mapped.row(number) for number in range(10)] == [read.row(number) for number in range(10)]


def test_flex_attention_sees_what_the_boolean_mask_shows(tmp_path):
    model, pixels = make_model(tmp_path), torch.randn(3, 3, 32, 32)
    # On the CPU it has neither a fast kernel nor a backward pass: eagerly, and forwards only.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected, packed = losses_of(model, PAIRS, pixels)
        choose_attention(model.llm, "flex", torch.device("cpu"))
        losses, _ = losses_of(model, PAIRS, pixels)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    rows, length = packed.segments.shape
    visible = flex_mask(packed.segments, packed.prefixes).mask_mod
    grid = torch.meshgrid(torch.arange(rows), torch.arange(length), torch.arange(length), indexing="ij")
    expected = segment_mask(packed.segments, packed.prefixes)[:, 0]
    assert torch.equal(visible(grid[0], None, grid[1], grid[2]), expected)


def test_unknown_attention_is_refused(tmp_path):
    with pytest.raises(
        GranvitError, match="attention: 'fast' is unknown; expected auto or one of sdpa, flex"
    ):
        choose_attention(make_model(tmp_path).llm, "fast", torch.device("cpu"))
