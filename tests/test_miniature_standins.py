"""The shipped stand-ins load through the code of the published checkpoints, and can be built again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from granvit.boxes import format_box
from granvit.config.loading import load_config
from granvit.data.records.prompts import bbox2caption_question
from granvit.miniature.questions.scenes import box_text, region_captions
from granvit.miniature.questions.templates import TEMPLATE_CHUNKS
from granvit.miniature.standins import build as standins
from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins import encoders as standin_encoders
from granvit.miniature.standins import llms as standin_llms
from granvit.miniature.standins import probe as probing
from granvit.miniature.standins import scores, told
from granvit.miniature.standins.course import Course
from granvit.miniature.standins.tokenizer import build_tokenizer
from granvit.miniature.world.rendering import rng_for, split_of
from granvit.miniature.world.scenes import Scene, contents
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import token_losses
from granvit.models.packing import ChatFormat, pack

ROOT = Path(__file__).resolve().parent.parent
CONFIG = load_config("mini", root=ROOT)


def spec(folder: str) -> SimpleNamespace:
    return SimpleNamespace(path=str(ROOT / "standins" / folder))


@pytest.mark.parametrize("name", standins.ENCODERS)
def test_shipped_encoder_gives_a_feature_for_each_of_64_patches(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    encoder = load_encoder(CONFIG.encoders[name])
    features = encoder(torch.zeros(2, 3, 128, 128))
    assert features.shape == (2, 64, 128) and torch.isfinite(features).all()


@pytest.mark.parametrize("name", standins.LLMS)
def test_shipped_tokenizer_is_what_the_code_builds(name):
    shipped = load_tokenizer(spec(f"llms/{name}"))
    built = build_tokenizer(standin_llms.SHAPES[name][0])
    assert json.loads(shipped.backend_tokenizer.to_str()) == json.loads(built.backend_tokenizer.to_str())
    assert shipped.chat_template == built.chat_template


def test_box_costs_few_tokens_after_loading():
    tokenizer = load_tokenizer(spec("llms/Qwen2.5-1.5B"))
    text = format_box([187, 321, 294, 447], 512, 512)
    assert len(tokenizer(text)["input_ids"]) <= 9
    question = bbox2caption_question(text)
    assert tokenizer.decode(tokenizer(question)["input_ids"]) == question


def test_any_text_survives_the_tokenizer():
    tokenizer = build_tokenizer("llama")
    for text in ("Ünïcode, 漢字 and 3.14", *TEMPLATE_CHUNKS):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_standins_stay_small_enough_for_git():
    size = sum(path.stat().st_size for path in (ROOT / "standins").rglob("*") if path.is_file())
    assert size < 40e6


def test_larger_llm_begins_as_the_smallest():
    small, known = (
        load_llm(spec("llms/Qwen2.5-1.5B"), torch.float32),
        load_tokenizer(spec("llms/Qwen2.5-1.5B")),
    )
    large = standin_llms.new_llm("Qwen2.5-3B", known)
    standin_llms.grow(large, known, small, known)
    ids = known("a small striped red face at the top left", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        grown, start = (llm(ids).logits[..., : len(known)] for llm in (large, small))
    torch.testing.assert_close(grown, start, rtol=1e-4, atol=1e-4)
    assert len(large.model.layers) > len(small.model.layers)


def test_captured_step_has_the_loss_of_packed_training(monkeypatch):
    monkeypatch.setattr(standin_llms, "SYMBOL_NOISE", 0.0)
    llm, tokenizer = load_llm(spec("llms/Qwen2.5-1.5B")), load_tokenizer(spec("llms/Qwen2.5-1.5B"))
    chat, teller = ChatFormat(tokenizer), told.Teller("qwen2")
    rows = {name: torch.from_numpy(array).long() for name, array in teller.rows(0, 50_000, 3).items()}
    before = len(chat.before_image)
    with torch.no_grad():
        loss = standin_llms.answer_loss(llm, rows, before)
        packed, images = [], []
        for number in range(3):
            truth = standin_data.make_truth(standin_data.full_index(50_000 + number))
            rng = rng_for("told", 0, 50_000 + number)
            segments = [chat.segment(question, answer) for question, answer in told.questions(truth, rng)]
            packed.append(segments)
            slots = torch.from_numpy(teller.symbols.slots(truth, rng.random() < told.PLACED)).long()
            images.append(told.embed_symbols(llm.get_input_embeddings().weight, slots[None]))
        wanted = token_losses(llm, torch.cat(images), pack(packed, chat, told.PATCHES)).mean()
    torch.testing.assert_close(loss, wanted)


def test_rows_do_not_depend_on_who_makes_them():
    feed = told.Feed("qwen2", 3, 2 * told.CHUNK)
    chunks = [rows for _ in range(2) for rows in feed.take(wait=True)]
    assert feed.left == 0 and not feed.take(wait=True) and len(chunks) == 2
    again = told.make_rows(("qwen2", 3, told.FIRST_TRUTH + told.CHUNK))
    assert all((chunks[1][name] == array).all() for name, array in again.items())


def test_widened_boxes_hold_the_box_and_no_more_than_16_pixels_around():
    rng, box = np.random.default_rng(0), (64, 128, 192, 256)
    moved = np.array([told.widen(box, rng, exact=0) for _ in range(200)]) - box
    assert (moved[:, :2] <= 0).all() and (moved[:, 2:] >= 0).all() and 15 < abs(moved).max() <= 16
    assert told.widen(box, rng, exact=1) == box


def test_smallest_llm_learns_from_rows_in_a_few_steps(monkeypatch):
    for name, value in {"STORE": 64, "SOONEST": 64, "BATCH": 4, "SYNC_EVERY": 5, "WARMUP": 2}.items():
        monkeypatch.setattr(standin_llms, name, value)
    losses = []
    monkeypatch.setattr(standin_llms, "say", lambda log, line: losses.append(line))
    feed, course = told.Feed("qwen2", 0, 64), Course(steps=15, warmup=2)
    *_, manifest = standin_llms.pretrain("Qwen2.5-1.5B", 0, feed, course)
    first = float(re.search(r"loss ([\d.]+)", losses[0])[1])
    assert manifest["steps"] == 15 and manifest["different_images"] == 64
    assert manifest["final_loss"] < first


def test_scores_count_what_is_said_not_how(monkeypatch):
    probes = scores.dev_probes(2)
    assert all(split_of(contents(truth.objects)) == "dev" for truth, _ in probes if isinstance(truth, Scene))
    asked = [(truth, probe) for truth, some in probes for probe in some]
    right = {
        probe.question: next(text for text in answers_of(truth) if probe.right(text))
        for truth, probe in asked
    }
    tokenizer = build_tokenizer("qwen2")
    llm = standin_llms.new_llm("Qwen2.5-1.5B", tokenizer)
    told_answers = lambda model, images, owners, questions, longest: [  # noqa: E731
        tokenizer(right[question])["input_ids"] for question in questions
    ]
    monkeypatch.setattr(scores, "generate", told_answers)
    assert set(scores.symbol_scores(llm, tokenizer, 2).values()) == {1.0}
    monkeypatch.setattr(scores, "generate", lambda *a: [tokenizer("[0, 0, 1]")["input_ids"]] * len(a[3]))
    assert set(scores.symbol_scores(llm, tokenizer, 2).values()) == {0.0}


def answers_of(truth) -> list[str]:
    """Texts among which the answer to every question of `scores` is."""
    texts = [text for text, _ in told.regions(truth, np.random.default_rng(0))]
    if isinstance(truth, Scene):
        boxes = [thing.box for thing in truth.objects]
        texts += [text for thing in truth.objects for text in region_captions(truth.objects, thing)]
    else:
        boxes = [box for _, box in standin_data.printed(truth)]
        words = [line.text for line in truth.lines]
        texts += [*words, " ".join(words), str(truth.total)]
        texts += [text for entry in truth.entries for text in (entry.label, str(entry.value))]
    wider = [(x1 - 8, y1 - 8, x2 + 8, y2 + 8) for x1, y1, x2, y2 in boxes]
    return texts + [box_text(box) for box in [*boxes, *wider]]


def test_encoder_begins_and_stays_blind_to_what_is_finer_than_its_pictures(monkeypatch, tmp_path):
    monkeypatch.setattr(standin_encoders, "HELD_OUT", 16)
    monkeypatch.setattr(standin_encoders, "BATCH", 4)
    standin_data.draw_pictures(tmp_path / "pool.npz", 40)
    pictures = standin_data.load_pictures(tmp_path / "pool.npz")
    assert pictures.pixels.shape == (40, 3, 128, 128) and pictures.labels.shape == (40, 64, 4)
    truth = standin_data.make_truth(2)
    assert pictures.full[2] == truth.caption() and len(pictures.parts[2]) == len(truth.objects)
    for name in ("SigLIP2", "AIMv2"):
        schooling = standin_encoders.Schooling(name, pictures, 0, torch.device("cpu"))
        schooling.train(2)
        weight = next(p for p in schooling.tower.parameters() if p.dim() == 4).detach()
        torch.testing.assert_close(standin_encoders.coarse(weight), weight, rtol=0, atol=1e-5)
        monkeypatch.setattr(standin_encoders, "COARSE_STEPS", 2)
        schooling.train(2)
        weight = next(p for p in schooling.tower.parameters() if p.dim() == 4).detach()
        assert (standin_encoders.coarse(weight) - weight).abs().max() > 1e-4
        monkeypatch.undo()
        monkeypatch.setattr(standin_encoders, "HELD_OUT", 16)
        monkeypatch.setattr(standin_encoders, "BATCH", 4)


def test_what_is_ahead_waits():
    schooling = SimpleNamespace(scores={"shape": 0.3, "word": 0.6})
    levels = standin_encoders.Schooling.levels
    assert [standin_data.LEVELS[i] for i in levels(schooling)] == ["object", "scene"]
    schooling.scores = {"shape": 0.6, "word": 0.3}
    assert [standin_data.LEVELS[i] for i in levels(schooling)] == ["word", "document"]
    schooling.scores = {"shape": 0.6, "word": 0.6}
    assert len(levels(schooling)) == 4


def test_band_is_missed_from_both_sides():
    known = {"row": 1.0, "column": 1.0}
    assert standin_encoders.miss({"shape": 0.55, "word": 0.6} | known) == 0
    assert standin_encoders.miss({"shape": 0.42, "word": 0.73} | known) == pytest.approx(0.2)
    blind = {"shape": 0.55, "word": 0.6, "row": 0.9, "column": 1.0}
    assert standin_encoders.miss(blind) == pytest.approx(0.02)


def test_probe_reads_what_features_hold_and_nothing_else(monkeypatch):
    monkeypatch.setattr(probing, "TEST", 64)
    labels = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (256, 64, 4))).to(torch.int8)
    features = torch.randn(256, 64, 8, generator=torch.Generator().manual_seed(0))
    features[..., 0] = labels[..., 0]  # the first group's word
    features[..., 1] = torch.arange(64) % 8  # the column
    monkeypatch.setattr(probing, "patch_features", lambda tower, pixels: features)
    found = probing.probe(torch.nn.Identity(), torch.zeros(256, 3, 8, 8), labels)
    assert found["shape"] > 0.98 and found["column"] > 0.6
    assert 0.4 < found["texture"] < 0.6 and found["row"] < 0.25


def test_symbols_say_on_every_patch_of_an_object_what_it_is():
    truth = standin_data.make_truth(standin_data.full_index(0))
    assert isinstance(truth, Scene)
    slots = standin_data.symbols(truth)
    for thing in truth.objects:
        x1, y1, x2, y2 = (edge // 64 for edge in thing.box)
        for row in range(y1, y2):
            for column in range(x1, x2):
                assert slots[8 * row + column] == [thing.size, thing.texture, thing.colour, thing.shape]
