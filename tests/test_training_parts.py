"""Order of images, remembered features, regions and distillation."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from factories import VISION, make_encoder, make_mixture, make_recipe
from PIL import Image
from test_models_packing import make_model

from granvit.boxes import to_canvas
from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder
from granvit.training.batches import Batches, Feed, Order, Regions, Samples, choose_regions
from granvit.training.distillation import Teacher
from granvit.training.examples import Examples, Mixture
from granvit.training.images import FeatureStore, ImageStore, decode_at_least
from granvit.training.optimizer import rate_factor
from granvit.training.stages import STAGES, learning_parts

SETTINGS = make_recipe("stage1").distillation


def test_every_epoch_sees_every_image_once_in_another_order():
    order = Order(images=10, epochs=2.5, batch_size=4, seed=3)
    rows = [row for step in range(order.steps) for row in order.rows(step)]
    assert order.steps == 7 and len(rows) == 25
    first, second = rows[:10], rows[10:20]
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert len(set(rows[20:])) == 5


def test_order_of_a_step_does_not_depend_on_the_steps_before():
    walked = Order(10, 3, 4, seed=1)
    for step in range(5):
        walked.rows(step)
    assert Order(10, 3, 4, seed=1).rows(5) == walked.rows(5) != Order(10, 3, 4, seed=2).rows(5)


def test_order_drawn_before_workers_are_forked_is_the_same_and_none_draws_again(monkeypatch):
    expected = [Order(10, 2.5, 4, seed=1).rows(step) for step in range(7)]
    order = Order(10, 2.5, 4, seed=1)
    order.draw_all()
    monkeypatch.setattr(torch, "randperm", None)
    assert [order.rows(step) for step in range(order.steps)] == expected


def test_workers_of_a_feed_find_the_order_drawn(tmp_path):
    model, mixture = make_model(tmp_path), Mixture(make_mixture(tmp_path / "m.parquet"))
    samples = Samples(
        Examples(mixture, model, STAGES["stage1"].tasks, False), ImageStore(mixture, model, False)
    )
    feed = Feed(Batches(samples, Order(10, 2.0, 4, 0), model, SETTINGS), workers=1)
    feed[0]
    assert len(feed.batches.order._permutations) == 2


class Numbered:
    """Stands in for Batches: a batch is its step's number, and the third cannot be made."""

    order = Order(images=8, epochs=3, batch_size=4, seed=0)  # six steps

    def __getitem__(self, step):
        if step == 3:
            raise GranvitError("key: the file and the remedy")
        return step


def test_workers_make_the_steps_ahead_and_begin_again_only_after_a_jump(monkeypatch):
    begun, loader = [], Feed._loader
    monkeypatch.setattr(Feed, "_loader", lambda feed, step: begun.append(step) or loader(feed, step))
    feed = Feed(Numbered(), workers=1)
    assert [feed[step] for step in (1, 2, 4, 5)] == [1, 2, 4, 5]
    assert begun == [1, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be_made_says_why_in_its_own_words(workers):
    feed = Feed(Numbered(), workers)
    assert feed[2] == 2
    with pytest.raises(GranvitError, match=r"^key: the file and the remedy$"):
        feed[3]


def test_learning_rate_warms_up_and_falls_to_zero():
    factors = [rate_factor(step, 100, 0.03) for step in range(100)]
    assert factors[:3] == [1 / 3, 2 / 3, 1.0] and max(factors) == 1.0 and factors[-1] < 0.001
    assert factors[3:] == sorted(factors[3:], reverse=True)


def test_reduced_jpeg_is_the_image_at_a_size_still_large_enough():
    rows, columns = np.mgrid[0:480, 0:640]
    image = Image.fromarray(np.stack([columns // 3, rows // 2, (rows + columns) // 5], -1).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    small = decode_at_least(buffer.getvalue(), 256)
    assert small.size == (320, 240)
    expected = np.asarray(image.resize((320, 240), Image.Resampling.BOX), dtype=int)
    assert np.abs(np.asarray(small, dtype=int) - expected).mean() < 2


def test_remembered_features_have_the_same_bits_whoever_asks_first(tmp_path):
    model, mixture = make_model(tmp_path), Mixture(make_mixture(tmp_path / "m.parquet"))
    forwards, backwards = (
        FeatureStore(ImageStore(mixture, model, keep=True), model, "fp32") for _ in range(2)
    )
    some = torch.cat([forwards([row]) for row in range(10)])
    assert torch.equal(some, backwards(list(range(9, -1, -1))).flip(0))


def test_regions_reach_the_encoder_moved_with_the_padding(tmp_path):
    model, mixture = make_model(tmp_path), Mixture(make_mixture(tmp_path / "m.parquet"))
    examples = Examples(mixture, model, STAGES["stage1"].tasks, keep=True)
    images = ImageStore(mixture, model, keep=True)
    (batch,) = Batches(Samples(examples, images), Order(10, 1, 2, 0), model, SETTINGS)[0].micros
    assert batch.regions.views.tolist() == [0, 0, 1, 1]  # two an image, as the settings say
    for box, view in zip(batch.regions.boxes.tolist(), batch.regions.views.tolist(), strict=True):
        example = examples[batch.rows[view]]
        moved = [to_canvas(b, example.width, example.height, 32) for b in example.boxes]
        assert any(box == pytest.approx(candidate, abs=1e-4) for candidate in moved)


def test_chosen_regions_change_with_the_epoch_but_not_with_the_machine():
    boxes = [[float(i), 0.0, 10.0, 10.0] for i in range(20)]
    first = choose_regions(boxes, 4, "0/0/key")
    assert first == choose_regions(boxes[::-1], 4, "0/0/key") != choose_regions(boxes, 4, "0/1/key")


@pytest.mark.parametrize("family", VISION)
def test_teacher_sees_crops_of_another_size_as_the_student_would(tmp_path, family):
    encoder = load_encoder(make_encoder(tmp_path, family))
    teacher, crops = Teacher(encoder, SETTINGS), torch.randn(2, 3, SETTINGS.crop_size, SETTINGS.crop_size)
    assert SETTINGS.crop_size != encoder.spec.image_size
    with torch.no_grad():
        assert torch.equal(teacher.encoder(crops), encoder(crops))


def test_distillation_of_the_whole_image_starts_at_zero(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path))
    settings = SETTINGS.model_copy(update={"crop_size": encoder.spec.image_size})
    teacher, pixels = Teacher(encoder, settings), torch.randn(2, 3, 32, 32)
    whole = Regions(torch.tensor([[0.0, 0, 32, 32]] * 2), torch.arange(2))
    part = Regions(torch.tensor([[4.0, 4, 20, 24]] * 2), torch.arange(2))
    features = encoder(pixels)
    loss, cosine = teacher.loss(features, pixels, whole)
    assert float(loss.detach()) < 1e-6 and float(cosine) == pytest.approx(1, abs=1e-4)
    loss, _ = teacher.loss(features, pixels, part)
    loss.backward()
    assert float(loss.detach()) > 1e-3
    assert all(parameter.grad is not None for parameter in encoder.feature_parameters())
    assert all(parameter.grad is None for parameter in teacher.encoder.parameters())


@pytest.mark.parametrize("pool", ["grid", "pooled"])
def test_normalised_distillation_does_not_reward_larger_features(tmp_path, pool):
    torch.manual_seed(0)
    encoder = load_encoder(make_encoder(tmp_path))
    pixels, regions = (
        torch.randn(1, 3, 32, 32),
        Regions(torch.tensor([[4.0, 4, 20, 24]]), torch.zeros(1).long()),
    )
    features = encoder(pixels).detach()
    loss = {}
    for normalise in (False, True):
        settings = SETTINGS.model_copy(update={"normalise": normalise, "pool": pool})
        teacher = Teacher(encoder, settings)
        loss[normalise] = [float(teacher.loss(scale * features, pixels, regions)[0]) for scale in (1, 10)]
    assert loss[False][1] > 2 * loss[False][0]
    assert loss[True][1] == pytest.approx(loss[True][0], rel=1e-3)


def test_teacher_follows_the_student_by_its_moving_average(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path))
    teacher = Teacher(encoder, SETTINGS)
    start = teacher.encoder.model.embeddings.patch_embedding.weight.clone()
    with torch.no_grad():
        encoder.model.embeddings.patch_embedding.weight.add_(1.0)
    teacher.update()
    now = teacher.encoder.model.embeddings.patch_embedding.weight
    torch.testing.assert_close(now, start + (1 - SETTINGS.ema_decay))
    assert not any(parameter.requires_grad for parameter in teacher.encoder.parameters())


def test_crop_that_is_no_whole_number_of_patches_is_refused(tmp_path):
    settings = SETTINGS.model_copy(update={"crop_size": 30})
    with pytest.raises(GranvitError, match="crop_size is 30; expected a multiple .* 8"):
        Teacher(load_encoder(make_encoder(tmp_path)), settings)


def test_task_that_a_stage_does_not_learn_is_refused(tmp_path):
    mixture = Mixture(make_mixture(tmp_path / "m.parquet", tasks=("instruction",)))
    with pytest.raises(GranvitError, match=r"m\.parquet.*task 'instruction'.*another mixture"):
        Examples(mixture, make_model(tmp_path), STAGES["stage1"].tasks, keep=False)[0]


def test_distillation_without_a_learning_encoder_is_refused():
    trains = {"encoder": False, "projector": True, "llm": False}
    with pytest.raises(GranvitError, match="distillation"):
        learning_parts(make_recipe("stage1", trains=trains))


def test_missing_mixture_is_named():
    with pytest.raises(GranvitError, match=r"nowhere\.parquet does not exist"):
        Mixture("nowhere.parquet")
