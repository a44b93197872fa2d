"""The code runs on a device called npu as it does on the CPU: every stage learns the same there.

Another process registers a device of that name whose operators run on the CPU (npu_device.cpp) and refuse
tensors that were left behind on the CPU.
"""

from __future__ import annotations

import json
import os
import signal
from types import SimpleNamespace

import npu_device
import pytest
import torch
import torch.nn.functional as F
from factories import STAGE_TASKS, make_job, make_mixtures, make_recipe, make_world
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from granvit.device import describe_device, pick_device
from granvit.training.run import train

pytestmark = pytest.mark.skipif(npu_device.obstacle() is not None, reason=str(npu_device.obstacle()))
PARTS = ("encoder", "projector", "llm")
# Adam's first step moves a weight by the learning rate, however small its gradient: this one is seen at a
# tolerance of 1e-5, and so is a weight that did not move.
RATES = {part: 1e-4 for part in PARTS}
# Attention does not change when all keys shift, so this gradient is but rounding errors.
LEFT_TO_CHANCE = "self_attn.k_proj.bias"


@pytest.fixture(scope="module")
def npu(request, tmp_path_factory):
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("npu_device") if cache else tmp_path_factory.mktemp("npu_device")
    with npu_device.machine(npu_device.build(folder)) as machine:
        yield machine


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = make_world(tmp_path_factory.mktemp("world"))
    world.mixtures = make_mixtures(tmp_path_factory.mktemp("mixtures"), images=4)
    return world


@pytest.fixture(scope="module", params=STAGE_TASKS)
def pair(request, npu, world, tmp_path_factory):
    """The same step of one stage on the CPU and on the npu, with held-out metrics before and after it."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = make_recipe(request.param, learning_rate=RATES, eval_every=1)
    there = npu.submit(start, world, recipe, folder / "npu", "npu")
    start(world, recipe, folder / "cpu", "cpu")
    return SimpleNamespace(cpu=folder / "cpu", npu=folder / "npu", lived_on=there.result())


def start(world, recipe, folder, device):
    """Train; returns on which kinds of device weights and inputs of modules were, and gradients of a step."""
    weights, gradients = set(), set()

    def look_at_weights(module, inputs):
        weights.update(parameter.device.type for parameter in module.parameters(recurse=False))
        weights.update(value.device.type for value in inputs if isinstance(value, torch.Tensor))

    def look_at_gradients(optimizer, *_):
        for group in optimizer.param_groups:
            gradients.update(p.grad.device.type for p in group["params"] if p.grad is not None)

    hooks = [
        register_module_forward_pre_hook(look_at_weights),
        register_optimizer_step_pre_hook(look_at_gradients),
    ]
    try:
        given = {"mixture": world.mixtures[recipe.stage], "heldout": world.heldout, "device": device}
        train(make_job(world, recipe, folder, **given))
    finally:
        for hook in hooks:
            hook.remove()
    return {"weights": weights - {"meta"}, "gradients": gradients}  # meta: where FLOPs are counted


def start_and_be_warned(world, recipe, folder, device):
    """Train, and get a scheduler's warning signal in the first step."""
    hook = register_optimizer_step_post_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        start(world, recipe, folder, device)
    finally:
        hook.remove()


def metrics(folder):
    """Losses, norms and held-out metrics of the last step, unrounded."""
    values = json.loads((folder / "run" / "manifest.json").read_text())["metrics"]
    assert values["loss"] > 0 and values["grad_norm"] > 0 and "heldout_loss_caption2bbox" in values
    return values


def weights(folder):
    loaded = {part: load_file(folder / "run" / "model" / part / "model.safetensors") for part in PARTS}
    return {f"{part}.{name}": value for part in PARTS for name, value in loaded[part].items()}


def test_step_of_each_stage_has_the_losses_of_the_cpu(pair):
    assert metrics(pair.npu) == pytest.approx(metrics(pair.cpu), abs=1e-5, rel=0)


def test_step_of_each_stage_exports_the_weights_of_the_cpu(pair):
    expected, found = weights(pair.cpu), weights(pair.npu)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not (name.startswith("encoder.") and name.endswith(LEFT_TO_CHANCE)):
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)


def test_all_of_a_step_happens_on_the_npu(pair):
    assert pair.lived_on == {"weights": {"npu"}, "gradients": {"npu"}}
    assert json.loads((pair.npu / "run" / "manifest.json").read_text())["device"].startswith("npu ")


def test_bf16_autocast_is_in_force_on_the_npu(npu, world, tmp_path):
    recipe = make_recipe("stage1", precision="bf16", learning_rate=RATES, eval_every=1)
    full = recipe.model_copy(update={"precision": "fp32"})
    runs = {"bf16": recipe, "fp32": full}
    there = [npu.submit(start, world, runs[name], tmp_path / name, "npu") for name in runs]
    start(world, recipe, tmp_path / "cpu", "cpu")
    assert all(run.result()["gradients"] == {"npu"} for run in there)
    found, expected, exact = (metrics(tmp_path / name)["loss"] for name in ("bf16", "cpu", "fp32"))
    # Each device has its own list of operators that autocast runs in bf16, hence the tolerance.
    assert found == pytest.approx(expected, abs=2e-3) and abs(found - exact) > 1e-5
    assert all(value.dtype == torch.float32 for value in weights(tmp_path / "bf16").values())


def test_run_stopped_on_the_npu_resumes_there_to_the_same_bytes(npu, world, tmp_path):
    recipe = make_recipe("stage1", epochs=2.0, learning_rate=RATES, eval_every=1)
    whole = npu.submit(start, world, recipe, tmp_path / "whole", "npu")
    stopped = npu.submit(start_and_be_warned, world, recipe, tmp_path / "stopped", "npu")
    whole.result()
    with pytest.raises(SystemExit) as left:
        stopped.result()
    assert left.value.code == 85 and not (tmp_path / "stopped" / "run").exists()
    npu.submit(start, world, recipe, tmp_path / "stopped", "npu").result()
    log, resumed = (tmp_path / name / "run" / "training_log.csv" for name in ("whole", "stopped"))
    assert resumed.read_bytes() == log.read_bytes()
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def choose_and_describe():
    device = pick_device("auto")
    return device.type, describe_device(device)


def test_npu_is_chosen_before_the_cpu_and_named(npu):
    kind, described = npu.submit(choose_and_describe).result()
    assert kind == "npu" and described == "npu CPU that is called npu"


def mix_devices(name):
    here, there = torch.ones(2, 2), torch.ones(2, 2, device="npu")
    numbers = torch.zeros(2, dtype=torch.long)
    mixtures = {
        "add": lambda: there + here,
        "linear": lambda: F.linear(there, here),
        "embedding": lambda: F.embedding(numbers, there),
        "index_select": lambda: there.index_select(0, numbers),
        "cat": lambda: torch.cat([there, here]),
    }
    mixtures[name]()


@pytest.mark.parametrize("operator", ["add", "linear", "embedding", "index_select", "cat"])
def test_tensor_left_on_the_cpu_is_refused(npu, operator):
    with pytest.raises(RuntimeError, match="same device|got a tensor of the CPU"):
        npu.submit(mix_devices, operator).result()
