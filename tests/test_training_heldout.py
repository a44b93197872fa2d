"""Held-out metrics: right answers are told from wrong ones, and how they are computed changes none."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch
from factories import make_mixture
from test_models_packing import make_model

from granvit.models import mllm
from granvit.training import heldout as heldout_module
from granvit.training.heldout import HeldOut
from granvit.training.stages import REGION_TASKS


class Ranks:
    """Ranks that run one after the other: all they give is gathered at the last."""

    def __init__(self, size: int, zero: int = 0) -> None:
        self.rank, self.size, self.zero, self.given = 0, size, zero, []

    def gather(self, items: list) -> list:
        self.given += items
        return self.given


@pytest.fixture
def path(tmp_path):
    return make_mixture(tmp_path / "h.parquet", images=5, tasks=REGION_TASKS)


def test_heldout_scores_tell_right_answers_from_wrong_ones(tmp_path, path, monkeypatch):
    model = make_model(tmp_path)
    heldout = HeldOut(path, model, 2, "fp32", Ranks(1))
    examples = [example for part, _ in heldout.batches for example in part]
    truth = {q: a for e in examples for q, a in zip(e.questions, e.answers, strict=True)}
    monkeypatch.setattr(model, "answer", lambda _, questions, *rest, **given: [truth[q] for q in questions])
    right = heldout.evaluate()
    heldout.cluster = Ranks(1)  # with nothing gathered yet
    assert len(examples) == 2 and right["heldout_rouge_l"] == 1.0 and right["heldout_acc_iou50"] == 1.0
    assert 0 < right["heldout_loss_bbox2caption"] < 2 * math.log(400)
    monkeypatch.setattr(
        model, "answer", lambda _, questions, *rest, **given: ["[0, 0, 0.1, nonsense"] * len(questions)
    )
    wrong = heldout.evaluate()
    assert wrong["heldout_rouge_l"] < 0.2 and wrong["heldout_acc_iou50"] == 0.0
    assert wrong["heldout_loss_bbox2caption"] == right["heldout_loss_bbox2caption"]


@pytest.mark.parametrize("zero", [0, 2])
def test_ranks_share_the_images_and_agree_on_the_metrics_of_one(tmp_path, path, zero):
    model = make_model(tmp_path)
    expected = HeldOut(path, model, 5, "fp32", Ranks(1)).evaluate()
    ranks, seen = Ranks(3, zero), []
    for ranks.rank in range(3):
        heldout = HeldOut(path, model, 5, "fp32", ranks)
        seen += [example.key for part, _ in heldout.batches for example in part]
        metrics = heldout.evaluate()
    assert sorted(seen) == [f"h-{number}" for number in range(5)]
    assert metrics == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("budget", [300, 1])
def test_pages_too_long_together_are_computed_in_parts_with_the_same_losses(
    tmp_path, path, budget, monkeypatch
):
    model, sizes = make_model(tmp_path), []
    expected = HeldOut(path, model, 5, "fp32", Ranks(1)).evaluate()
    token_losses = mllm.MLLM.token_losses

    def watched(self, images, packed):
        sizes.append((packed.ids.numel(), int(packed.segment_index.max()) + 1))
        return token_losses(self, images, packed)

    monkeypatch.setattr(mllm.MLLM, "token_losses", watched)
    metrics = HeldOut(path, model, 5, "fp32", Ranks(1), budget).evaluate()
    assert metrics == pytest.approx(expected, rel=1e-5) and len(sizes) > 5
    assert all(positions <= budget or questions == 1 for positions, questions in sizes)


def test_more_ranks_than_images_leave_some_without_any(tmp_path, path):
    model, ranks = make_model(tmp_path), Ranks(3)
    expected = HeldOut(path, model, 2, "fp32", Ranks(1)).evaluate()
    for ranks.rank in range(3):
        metrics = HeldOut(path, model, 2, "fp32", ranks).evaluate()
    assert metrics == pytest.approx(expected, rel=1e-5)


class InStep:
    """A rank of several that run in threads of their own, and wait for each other as ZeRO-3's do."""

    size, zero = 3, 3

    def __init__(self, rank: int, barrier: Barrier, told: dict) -> None:
        self.rank, self.barrier, self.told = rank, barrier, told

    def gather(self, items: list) -> list:
        self.told[self.rank] = items
        self.barrier.wait(60)
        found = [item for rank in range(self.size) for item in self.told[rank]]
        self.barrier.wait(60)
        return found

    def max(self, value: int) -> int:
        return max(self.gather([value]))


@pytest.mark.parametrize(("images", "budget"), [(5, 1 << 30), (5, 300), (2, 1 << 30), (7, 1)])
def test_ranks_that_share_weights_at_every_layer_share_the_images_and_stay_in_step(
    tmp_path, images, budget, monkeypatch
):
    """A forward pass of ZeRO-3 waits for the other ranks': one that makes fewer would leave them waiting."""
    monkeypatch.setattr(heldout_module, "QUESTIONS_A_BATCH", 4)
    monkeypatch.setattr(heldout_module, "IMAGES_A_BATCH", 2)
    path = make_mixture(tmp_path / "h.parquet", images=images, tasks=REGION_TASKS)
    expected = HeldOut(path, make_model(tmp_path), images, "fp32", Ranks(1)).evaluate()
    barrier, told = Barrier(3), {}
    models = [make_model(tmp_path / str(rank)) for rank in range(3)]
    passes: list[list[str]] = [[], [], []]
    for model, seen in zip(models, passes, strict=True):
        modules = {"encoder": model.encoder, "projector": model.projector, "llm": model.llm.model}
        for name, module in modules.items():
            module.register_forward_hook(lambda *_, seen=seen, name=name: seen.append(name))
    asked = [HeldOut(path, m, images, "fp32", InStep(n, barrier, told), budget) for n, m in enumerate(models)]
    assert all(sum(len(part) for part, _ in one.batches) == -(-images // 3) for one in asked)
    with ThreadPoolExecutor(3) as threads:
        found = [*threads.map(HeldOut.evaluate, asked)]
    assert found[0] == pytest.approx(expected, rel=1e-5) and found[0] == found[1] == found[2]
    assert passes[0] == passes[1] == passes[2] and passes[0].count("llm") > 10


def test_an_image_is_read_once_for_all_questions_about_it(tmp_path, path, monkeypatch):
    model, read = make_model(tmp_path), []
    generate = mllm.generate

    def watched(model, images, owners, questions, *rest):
        read.append((len(images), owners, len(questions)))
        return generate(model, images, owners, questions, *rest)

    monkeypatch.setattr(mllm, "generate", watched)
    monkeypatch.setattr(heldout_module, "QUESTIONS_A_BATCH", 8)
    HeldOut(path, model, 5, "fp32", Ranks(1)).evaluate()
    a_task = [(3, [0, 0, 0, 1, 1, 1, 2, 2], 8), (3, [0, 1, 1, 1, 2, 2, 2], 7)]
    assert read == [*a_task, *a_task]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_heldout_questions_are_computed_in_the_precision_of_the_run(tmp_path, path, precision, dtype):
    model, seen = make_model(tmp_path), set()
    for linear in (model.projector.up, model.llm.model.layers[0].mlp.up_proj):
        linear.register_forward_hook(lambda module, given, output: seen.add(output.dtype))
    metrics = HeldOut(path, model, 2, precision, Ranks(1)).evaluate()
    assert seen == {dtype} and all(math.isfinite(value) for value in metrics.values())


def test_evaluation_leaves_what_learns_in_training_mode(tmp_path, path):
    """What checkpoints its activations does so in training mode only."""
    model = make_model(tmp_path)
    model.llm.train()
    before = SimpleNamespace(**{name: module.training for name, module in model.named_modules()})
    HeldOut(path, model, 1, "fp32", Ranks(1)).evaluate()
    assert vars(before) == {name: module.training for name, module in model.named_modules()}
