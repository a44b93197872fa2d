"""The shipped stand-ins load through the code of the published checkpoints, and can be built again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from granvit.boxes import format_box
from granvit.config.loading import load_config
from granvit.data.records.prompts import bbox2caption_question
from granvit.miniature.questions.templates import TEMPLATE_CHUNKS
from granvit.miniature.standins import build as standins
from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins import llms as standin_llms
from granvit.miniature.standins.tokenizer import build_tokenizer
from granvit.miniature.world.scenes import Scene
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer

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


def test_symbols_say_on_every_patch_of_an_object_what_it_is():
    truth = standin_data.make_truth(standin_data.full_index(0))
    assert isinstance(truth, Scene)
    slots = standin_data.symbols(truth)
    for thing in truth.objects:
        x1, y1, x2, y2 = (edge // 64 for edge in thing.box)
        for row in range(y1, y2):
            for column in range(x1, x2):
                assert slots[8 * row + column] == [thing.size, thing.texture, thing.colour, thing.shape]
