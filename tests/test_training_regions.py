"""Regions that a step distils: which of an image's boxes, and how much around them."""

from __future__ import annotations

import pytest
import torch
from factories import make_encoder, make_mixture, make_recipe
from test_models_packing import make_model

from granvit.models.encoders import load_encoder
from granvit.training import distillation
from granvit.training.batches import Batches, Order, Regions, Samples
from granvit.training.distillation import Teacher
from granvit.training.examples import Examples, Mixture
from granvit.training.images import ImageStore
from granvit.training.stages import STAGES

IMAGES, SIDE = 10, 32


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model that sees 32 px, and images with more boxes than a step distils."""
    folder = tmp_path_factory.mktemp("regions")
    model = make_model(folder)
    mixture = Mixture(make_mixture(folder / "m.parquet", IMAGES, regions=6))
    examples = Examples(mixture, model, STAGES["stage1"].tasks, keep=True)
    return model, Samples(examples, ImageStore(mixture, model, keep=True))


def regions_of(world, step: int, seed: int = 0, **settings) -> dict[str, list[list[float]]]:
    """image -> the boxes that a step distils, in pixels of what the encoder sees; a step is an epoch."""
    model, samples = world
    settings = make_recipe("stage1").distillation.model_copy(update=settings)
    batches = Batches(samples, Order(IMAGES, 3, IMAGES, seed), model, settings)
    (micro,) = batches[step].micros
    keys = [samples.examples[row].key for row in micro.rows]
    chosen = {key: [] for key in keys}
    for box, view in zip(micro.regions.boxes.tolist(), micro.regions.views.tolist(), strict=True):
        chosen[keys[view]].append(box)
    return chosen


def test_every_image_has_as_many_regions_as_the_settings_say(world):
    for count in (1, 4):
        chosen = regions_of(world, 0, regions_per_image=count)
        assert len(chosen) == IMAGES and {len(boxes) for boxes in chosen.values()} == {count}


def test_another_epoch_and_another_seed_distil_other_regions_of_an_image(world):
    epochs = [regions_of(world, step) for step in range(3)]
    for one, other in [(epochs[0], epochs[1]), (epochs[1], epochs[2]), (epochs[0], regions_of(world, 0, 1))]:
        assert one.keys() == other.keys()
        assert sum(one[key] != other[key] for key in one) > IMAGES / 2
    assert regions_of(world, 1) == epochs[1]


@pytest.mark.parametrize("context", [0.25, 0.5])
def test_context_widens_a_region_on_every_side_by_a_share_of_its_own(world, context):
    plain, wide = regions_of(world, 0), regions_of(world, 0, context=context)
    assert len(plain) == IMAGES and plain.keys() == wide.keys()
    for key, boxes in plain.items():
        for (x1, y1, x2, y2), widened in zip(boxes, wide[key], strict=True):
            dx, dy = context * (x2 - x1), context * (y2 - y1)
            assert widened == pytest.approx([x1 - dx, y1 - dy, x2 + dx, y2 + dy], abs=1e-3)
            assert dx > 1 and dy > 1


def test_a_step_belongs_to_the_epoch_in_which_it_begins():
    order = Order(images=10, epochs=2, batch_size=4, seed=0)
    assert [order.epoch(step) for step in range(order.steps)] == [0, 0, 0, 1, 1]
    assert all(isinstance(order.epoch(step), int) for step in range(5))


def test_a_rank_without_images_gives_a_grey_one_and_a_loss_of_nothing(world, tmp_path):
    model, samples = world
    settings = make_recipe("stage1").distillation
    micro = Batches(samples, Order(IMAGES, 1, IMAGES, 0), model, settings).blank()
    assert micro.rows == [] and micro.counts()[1:] == (0, 0)
    assert micro.pixels.shape == (1, 3, SIDE, SIDE) and set(micro.pixels.flatten().tolist()) == {128}
    assert micro.regions.boxes.shape == (0, 4) and micro.regions.views.shape == (0,)
    encoder = load_encoder(make_encoder(tmp_path, size=SIDE))
    features = encoder(torch.randn(1, 3, SIDE, SIDE))
    loss, cosine = Teacher(encoder, settings).loss(features, micro.pixels.float(), micro.regions)
    loss.backward()
    assert loss.item() == cosine.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in encoder.feature_parameters())


def test_the_teachers_crop_and_the_students_region_are_the_same_part_of_the_image(tmp_path, monkeypatch):
    """Widened or not: ROIAlign cuts the crop out of the pixels and the region out of the feature map."""
    seen, cut = [], distillation.roi_align

    def watched(features, boxes, views, size, scale=1.0):
        seen.append((boxes * scale / features.shape[-1], views.tolist()))
        return cut(features, boxes, views, size, scale)

    monkeypatch.setattr(distillation, "roi_align", watched)
    encoder = load_encoder(make_encoder(tmp_path, size=SIDE))
    pixels = torch.randn(2, 3, SIDE, SIDE)
    regions = Regions(torch.tensor([[4.0, 2, 20, 24], [-3.0, 5, 9, 40]]), torch.tensor([1, 0]))
    Teacher(encoder, make_recipe("stage1").distillation).loss(encoder(pixels), pixels, regions)
    (crop, crop_views), (region, region_views) = seen
    torch.testing.assert_close(crop, region)
    torch.testing.assert_close(crop, regions.boxes / SIDE)
    assert crop_views == region_views == [1, 0]
