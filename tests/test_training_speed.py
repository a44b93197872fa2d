"""Switches that make training faster change nothing that is learnt, beyond rounding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from test_models_packing import PAIRS, losses_of, make_model

from granvit.config.compute import RunCompute
from granvit.training.speed import compile_layers, fits_bf16, prepare_model

CPU = torch.device("cpu")


def recipe(llm_learns: bool, precision: str = "bf16"):
    return SimpleNamespace(trains=SimpleNamespace(llm=llm_learns), precision=precision)


def as_published(model):
    """Weights that bf16 holds."""
    with torch.no_grad():
        for weight in model.llm.parameters():
            weight.copy_(weight.bfloat16())
    return model


@pytest.mark.parametrize(
    ("switch", "learns", "precision", "expected"),
    [
        (True, False, "bf16", torch.bfloat16),
        (False, False, "bf16", torch.float32),
        (True, True, "bf16", torch.float32),
        (True, False, "fp32", torch.float32),
    ],
    ids=["frozen", "switched off", "learns", "computed in fp32"],
)
def test_only_a_frozen_llm_of_a_bf16_run_is_kept_in_bf16(tmp_path, switch, learns, precision, expected):
    model = as_published(make_model(tmp_path))
    prepare_model(model, recipe(learns, precision), RunCompute(frozen_bf16=switch), CPU)
    assert {weight.dtype for weight in model.llm.parameters()} == {expected}
    assert {weight.dtype for weight in model.encoder.parameters()} == {torch.float32}


def test_an_llm_whose_weights_bf16_would_round_stays_as_it_is(tmp_path):
    model = make_model(tmp_path)
    assert not fits_bf16(model.llm.parameters())
    prepare_model(model, recipe(False), RunCompute(frozen_bf16=True), CPU)
    assert next(model.llm.parameters()).dtype == torch.float32


def test_losses_and_answers_of_a_frozen_bf16_llm_are_near_and_its_weights_come_back(tmp_path):
    model, pixels = as_published(make_model(tmp_path)), torch.randn(3, 3, 32, 32)
    weights = {name: value.clone() for name, value in model.llm.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, _ = losses_of(model, PAIRS, pixels)
        prepare_model(model, recipe(False), RunCompute(frozen_bf16=True), CPU)
        losses, _ = losses_of(model, PAIRS, pixels)
    torch.testing.assert_close(losses, expected, rtol=0.05, atol=0.05)
    assert len(model.answer(model.encode_images(pixels), ["Q"] * 3, 4)) == 3  # without autocast
    assert all(torch.equal(value.float(), weights[name]) for name, value in model.llm.state_dict().items())


def test_layers_that_are_used_are_compiled_where_asked_and_give_the_same(tmp_path):
    model, pixels = make_model(tmp_path), torch.randn(3, 3, 32, 32)
    expected, _ = losses_of(model, PAIRS, pixels)
    for choice in ("auto", False):
        compile_layers(model, None, choice, CPU)
        assert model.encoder.layers[0]._compiled_call_impl is None, choice
    compile_layers(model, None, True, CPU)
    used = [*model.encoder.layers[: model.encoder.depth_used], *model.llm.model.layers]
    assert all(layer._compiled_call_impl for layer in used)
    assert not any(layer._compiled_call_impl for layer in model.encoder.layers[model.encoder.depth_used :])
    with torch.compiler.set_stance("force_eager"):
        losses, _ = losses_of(model, PAIRS, pixels)
    assert torch.equal(losses, expected)
