"""Controls (docs/controls.md): each option does what it says, and nothing where it is not asked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from factories import make_encoder, make_job, make_mixture, make_recipe, make_world
from safetensors.torch import load_file
from test_models_packing import make_model
from torch import nn

from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder
from granvit.reporting.finished_runs import Run, taught
from granvit.training.batches import Batches, Order, Regions, Samples, Share
from granvit.training.contrast import Pairs, RegionContrast, number_texts
from granvit.training.distillation import Teacher
from granvit.training.examples import Examples, Mixture, count_tokens, described_boxes
from granvit.training.images import ImageStore
from granvit.training.run import train
from granvit.training.stages import STAGES

CONTRAST = {"temperature": 0.1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("controls"))


def weights(folder, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "run" / "model" / part / "model.safetensors")


def moved(world, folder, part: str, start) -> bool:
    """Whether a run has changed a part, whose weights ``start`` holds by name."""
    now = weights(folder, part)
    return any(not torch.equal(now[name], value) for name, value in start.items() if name in now)


def published(world, part: str) -> dict[str, torch.Tensor]:
    return load_file(f"{getattr(world, part).path}/model.safetensors")


# ---- supervised tokens ----


def test_supervised_tokens_are_those_that_training_supervises(tmp_path):
    model, mixture = make_model(tmp_path), Mixture(make_mixture(tmp_path / "m.parquet"))
    examples = Examples(mixture, model, STAGES["stage1"].tasks, keep=False)
    batches = Batches(Samples(examples, ImageStore(mixture, model, False)), Order(10, 1, 10, 0), model)
    (micro,) = batches[0].micros
    text, supervised = count_tokens(mixture, model.chat)
    assert supervised == len(micro.packed.targets) > 100
    assert text == sum(len(segment.ids) for row in range(10) for segment in examples[row].segments)


def test_a_run_with_tokens_of_another_mixture_is_as_long_as_its_tokens_last(world, tmp_path):
    """Captions alone, for the tokens of two epochs of captions and regions: within a step's worth."""
    captions = make_mixture(tmp_path / "c.parquet", 20, ("global_caption",))
    other = make_mixture(tmp_path / "o.parquet", 20, regions=4)
    recipe = make_recipe("stage1", distillation=None, tokens_of="o", epochs=2.0)
    model = make_model(tmp_path)
    wanted, once = (count_tokens(Mixture(path), model.chat)[1] for path in (other, captions))
    train(make_job(world, recipe, tmp_path, mixture=captions, matched=other))
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    images = manifest["metrics"]["images"]
    assert images * once / 20 == pytest.approx(2 * wanted, abs=once / 20)
    assert images > 2 * 20 and "tokens_of" in manifest["inputs"]


# ---- distillation ----


def test_pooled_distillation_compares_the_means_over_a_region(tmp_path):
    """By hand: of a box on the cells' borders, and a crop that is as large as its box."""
    encoder = load_encoder(make_encoder(tmp_path))  # 32 px, cells of 8 px
    settings = make_recipe("stage1").distillation.model_copy(update={"pool": "pooled", "crop_size": 16})
    teacher, pixels = Teacher(encoder, settings), torch.randn(1, 3, 32, 32)
    regions = Regions(torch.tensor([[8.0, 0, 24, 16]]), torch.tensor([0]))
    features = torch.randn(1, 16, encoder.width)
    loss, _ = teacher.loss(features, pixels, regions)
    with torch.no_grad():
        crop = teacher.encoder(pixels[:, :, 0:16, 8:24]).mean(1)
    region = features.view(4, 4, -1)[0:2, 1:3].mean((0, 1))
    assert float(loss) == pytest.approx(float(F.mse_loss(region[None], crop)), rel=1e-4)
    grid = Teacher(encoder, settings.model_copy(update={"pool": "grid"})).loss(features, pixels, regions)[0]
    assert float(grid) > 1.2 * float(loss)


def test_a_frozen_teacher_stays_as_it_began_while_the_student_learns(tmp_path):
    encoder = load_encoder(make_encoder(tmp_path))
    settings = make_recipe("stage1").distillation
    frozen, following = (
        Teacher(encoder, settings.model_copy(update={"ema_decay": decay})) for decay in (1.0, 0.9)
    )
    start = [p.clone() for p in frozen.encoder.parameters()]
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    for teacher in (frozen, following):
        teacher.update()
    assert all(torch.equal(a, b) for a, b in zip(start, frozen.encoder.parameters(), strict=True))
    used = zip(start, following.encoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in used)


# ---- contrast ----


@pytest.mark.parametrize("shared", [0.0, 5.0])
def test_contrastive_loss_is_that_of_a_case_by_hand(shared):
    """Features of one cell each, an identity for a projector, texts of one and two tokens; what all tokens
    have in common is of no account."""
    embeddings = nn.Embedding(4, 2)
    with torch.no_grad():
        embeddings.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]) + shared)
    contrast = RegionContrast(embeddings, 8, 0.5)
    texts = number_texts([[0], [0, 1], [3]])  # (1, 0), (1, 1) / root 2, (0, -1)
    features = torch.tensor([[[2.0, 0], [0, 3], [0, -1], [5, 5]]])  # 2 x 2 cells of 8 px
    boxes = torch.tensor([[0.0, 0, 8, 8], [8, 8, 16, 16]])
    pairs = Pairs(boxes, torch.tensor([0, 0]), torch.tensor([0, 2]), texts)
    found = contrast.losses(features, nn.Identity(), pairs)
    half = 2**-0.5
    logits = torch.tensor([[1.0, half, 0.0], [half, 1.0, -half]]) / 0.5  # cosines over the temperature
    expected = [-logits[0].log_softmax(0)[0], -logits[1].log_softmax(0)[2]]
    assert found.tolist() == pytest.approx([float(value) for value in expected], rel=1e-5)


def test_a_regions_feature_is_the_mean_of_its_cells():
    contrast = RegionContrast(nn.Embedding(4, 2), 8, 1.0)
    features, seen = torch.randn(1, 16, 2), []

    def projector(cells):
        seen.append(cells)
        return cells

    box = torch.tensor([[8.0, 0, 24, 16]])
    pairs = Pairs(box, torch.tensor([0]), torch.tensor([0]), number_texts([[1]]))
    contrast.losses(features, projector, pairs)
    torch.testing.assert_close(seen[0][0], features.view(4, 4, 2)[0:2, 1:3].mean((0, 1)))


def batches_of(folder, ranks: int = 1, budget: int = 1 << 30):
    model, mixture = make_model(folder), Mixture(make_mixture(folder / "m.parquet"))
    samples = Samples(
        Examples(mixture, model, STAGES["stage1"].tasks, False), ImageStore(mixture, model, False)
    )
    order = Order(10, 1, 6, 0)
    shares = [Share(rank, ranks, budget) for rank in range(ranks)]
    return model, [Batches(samples, order, model, None, share, contrasts=True) for share in shares]


def test_regions_are_contrasted_with_the_texts_of_the_whole_step_however_it_is_laid_out(tmp_path):
    def said(batches) -> list[tuple[tuple, str]]:
        micros = [micro for one in batches for micro in one[0].micros]
        assert all(micro.counts()[0] == len(micro.pairs.boxes) for micro in micros)
        texts = {(tuple(m.pairs.texts.ids.tolist()), m.pairs.texts.count) for m in micros}
        assert len(texts) == 1  # every micro-batch of every rank holds them all
        views = [(m.rows[view],) for m in micros for view in m.pairs.views.tolist()]
        boxes = [tuple(box) for m in micros for box in m.pairs.boxes.tolist()]
        places = [view + box for view, box in zip(views, boxes, strict=True)]
        wanted = [number for m in micros for number in m.pairs.wanted.tolist()]
        return sorted(zip(places, wanted, strict=True)), texts

    whole = said(batches_of(tmp_path)[1])
    assert len(whole[0]) == 6 * 4  # three regions and a caption an image
    assert said(batches_of(tmp_path, ranks=2)[1]) == said(batches_of(tmp_path, 1, 200)[1]) == whole


def test_a_global_caption_is_said_of_the_whole_image(tmp_path):
    row = Mixture(make_mixture(tmp_path / "m.parquet")).row(1)
    (box, text), *regions = described_boxes(row)
    assert box == [0, 0, row["width"], row["height"]] and text == row["qa"][0]["answer"]
    assert regions == [(pair["box"], pair["answer"]) for pair in row["qa"][1:]]
    located = SimpleNamespace(**row).qa + [dict(row["qa"][1], task="caption2bbox")]
    assert described_boxes(row | {"qa": located}) == described_boxes(row)


def test_contrastive_stage_1_teaches_encoder_and_projector_without_the_llm(world, tmp_path, monkeypatch):
    def never(*_: object):
        raise AssertionError("the language model was asked")

    monkeypatch.setattr("granvit.models.mllm.MLLM.token_losses", never)
    recipe = make_recipe("stage1", contrastive=CONTRAST, distillation=None, epochs=6.0)
    train(make_job(world, recipe, tmp_path))
    assert moved(world, tmp_path, "encoder", published(world, "encoder"))
    assert not moved(world, tmp_path, "llm", published(world, "llm"))
    with open(tmp_path / "run/training_log.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    assert not any(row["loss_caption"] for row in rows)
    losses = [float(row["loss_contrast"]) for row in rows]
    assert losses == [float(row["loss"]) for row in rows] and losses[-1] < losses[0] - 0.2


def test_a_run_without_controls_logs_no_column_of_theirs(world, tmp_path):
    train(make_job(world, make_recipe("stage1"), tmp_path))
    header = (tmp_path / "run/training_log.csv").read_text().splitlines()[0]
    assert header.startswith("step,images,loss,loss_caption,loss_distill") and "contrast" not in header
    recipe = json.loads((tmp_path / "run/manifest.json").read_text())["recipe"]
    assert not recipe.keys() & {"contrastive", "tokens_of"}


# ---- what a control can be asked for ----


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, {"caption", "describe"}),
        ({"mixture": "captions-8M"}, {"caption"}),
        ({"contrastive": CONTRAST}, set()),
        ({"mixture": "both-8M"}, {"caption", "describe", "locate"}),
    ],
)
def test_a_control_is_asked_for_nothing_that_it_was_not_taught(change, known):
    recipe = make_recipe("stage1", **change).model_dump()
    run = Run(Path("results/smoke/stage1/one/seed0"), {"recipe": recipe, "seed": 0})
    assert taught(run, []) == known


# ---- one stage ----


def test_both_tasks_in_one_stage_train_encoder_and_llm(world, tmp_path):
    both = make_mixture(tmp_path / "b.parquet", 8, ("global_caption", "bbox2caption", "caption2bbox"))
    recipe = make_recipe("stage1", trains={"encoder": True, "projector": True, "llm": True})
    train(make_job(world, recipe, tmp_path, mixture=both))
    assert all(moved(world, tmp_path, part, published(world, part)) for part in ("encoder", "llm"))


def test_a_mixture_that_is_not_there_is_named(world, tmp_path):
    recipe = make_recipe("stage1", distillation=None, tokens_of="o")
    with pytest.raises(GranvitError, match=r"nowhere\.parquet does not exist; make it with"):
        train(make_job(world, recipe, tmp_path, matched=tmp_path / "nowhere.parquet"))
