"""Is what a device computes right? The checks of on_device.py, each against the CPU, another kernel or an
uninterrupted run. A check returns its numbers and ``ok``; tolerances stand beside them."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from stage_model import SIZES, Size, build_model, make_samples
from stage_work import make_trainer, write_mixture

from granvit.config.compute import RunCompute
from granvit.config.loading import load_config
from granvit.config.recipes import resolve_recipe
from granvit.device import autocast, is_accelerator
from granvit.models.mllm import MLLM, PARTS
from granvit.models.roi_align import roi_align
from granvit.processes import importing_environment
from granvit.training.job import Job

# Relative distance of gradients: rounding of sums in fp32, and of every product's inputs in bf16.
TOLERANCE = {"fp32": 2e-3, "bf16": 6e-2}
REGIONS = (4, 5)


def packed_batch(device: torch.device, size: Size) -> dict:
    """Losses and gradients of one packed batch against the CPU in fp32: fp32 and bf16, SDPA and FlexAttention
    (all images in one row), plain and compiled."""
    torch.manual_seed(0)
    model = build_model(size, torch.device("cpu"))
    reference = _gradients(model, size, "fp32", "sdpa")
    variants = [("fp32", "sdpa", False), ("bf16", "sdpa", False)]
    if is_accelerator(device):  # FlexAttention has no backward on the CPU, and compiling takes it a minute
        variants += [("fp32", "flex", False), ("bf16", "flex", False), ("bf16", "flex", True)]
    model.to(device)
    found, ok = {}, True
    for precision, attention, compiled in variants:
        values = _gradients(model, size, precision, attention, compiled)
        distance = {name: _distance(values[name], reference[name]) for name in reference}
        found[f"{precision} {attention}{' compiled' if compiled else ''}"] = distance
        ok &= all(value <= TOLERANCE[precision] for value in distance.values())
    return {"ok": ok, "tolerance": TOLERANCE, "relative distance": found}


def _gradients(model: MLLM, size: Size, precision: str, attention: str, compiled: bool = False) -> dict:
    """Losses, and gradients of each part, after one backward pass of the first batch."""
    recipe = resolve_recipe(load_config("paper"), "sft-granvit")
    recipe = recipe.model_copy(update={"batch_size": len(REGIONS), "precision": precision})
    compute = RunCompute(attention=attention, compile=compiled)
    samples = make_samples(model, size, "instruction", REGIONS, len(REGIONS))
    with tempfile.TemporaryDirectory() as folder:
        mixture = write_mixture(Path(folder), samples)
        trainer = make_trainer(model, recipe, mixture, model.device, compute, packed=True, keep=False)
        (micro,) = trainer.batches[0].micros
    views = model.encoder.normalise(micro.pixels.to(model.device))
    packed = micro.packed.to(model.device)
    with autocast(model.device, precision):
        losses = model.token_losses(model.encode_images(views), packed)
    losses.mean().backward()
    values = {"losses": losses.detach().float().cpu()}
    for part in PARTS:
        gradients = [p.grad for p in getattr(model, part).parameters() if p.grad is not None]
        values[part] = torch.cat([g.float().flatten() for g in gradients]).cpu()
    model.zero_grad(set_to_none=True)
    return values


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """||found - expected|| / ||expected||; infinite where something is NaN."""
    distance = float((found - expected).norm() / expected.norm())
    return distance if distance == distance else float("inf")


def region_features(device: torch.device, size: Size) -> dict:
    """ROIAlign forward and backward against torchvision's: boxes inside, over the borders, tiny, empty."""
    if not importlib.util.find_spec("torchvision"):
        return {"skipped": "torchvision is not installed here"}
    from torchvision.ops import roi_align as reference

    torch.use_deterministic_algorithms(False)  # torchvision would compile another implementation
    torch.manual_seed(0)
    side, patch = size.encoder["image_size"], size.encoder["patch_size"]
    inside = torch.rand(24, 2, 2) * side
    boxes = torch.cat([
        torch.cat([inside.amin(1), inside.amax(1)], 1),
        torch.tensor([[-40.0, -9, 50, 70], [side - 60.0, side - 20, side + 80, side + 5], [0, 0, side, side],
                      [5, 5, 5.3, 5.2], [17, 3, 17, 60], [9, 9, 9, 9]]),
    ])  # fmt: skip
    maps, index = torch.arange(len(boxes)) % 3, boxes.to(device)
    worst, scale = {}, 1 / patch
    for name, cells, bins, unit in (
        ("features", side // patch, 14, scale),
        ("crops", side, size.crops[1], 1.0),
    ):
        features = torch.randn(3, 8, cells, cells)
        rois = torch.cat([maps[:, None].float(), boxes], 1).to(device)
        ours, theirs = (features.to(device, copy=True).requires_grad_() for _ in range(2))
        out = roi_align(ours, index, maps.to(device), (bins, bins), unit)
        expected = reference(theirs, rois, (bins, bins), unit, aligned=True)
        weights = torch.randn(out.shape, device=device)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        worst[name] = _distance(out.detach(), expected.detach())
        worst[f"{name}, backward"] = _distance(ours.grad, theirs.grad)
    return {"ok": max(worst.values()) <= 1e-4, "tolerance": 1e-4, "boxes": len(boxes), "distance": worst}


def answers(device: torch.device, size: Size, folder: str | None = None) -> dict:
    """Share of greedy answers that are another on the device than on the CPU; ``folder``: a trained model,
    otherwise random weights, whose tokens are nearly tied."""
    torch.manual_seed(0)
    model = MLLM.load(Path(folder)) if folder else build_model(size, torch.device("cpu"))
    model.eval()
    samples = list(make_samples(model, SIZES["tiny"], "instruction", (4,), 16))
    questions = [(row, pair["question"]) for row, (_, pairs) in enumerate(samples) for pair in pairs]
    pixels = torch.stack([model.preprocess(image) for image, _ in samples])

    def ask(where: torch.device) -> list:
        model.to(where)
        with torch.inference_mode():
            images = model.encode_images(pixels)
        return model.answer(
            images, [text for _, text in questions], 16, [row for row, _ in questions], closest=1e-4
        )

    here, there = ask(torch.device("cpu")), ask(device)
    sure = [pair for pair in zip(here, there, strict=True) if None not in pair]
    differ = sum(one != other for one, other in sure)
    return {"ok": differ == 0, "questions": len(questions), "sure on both": len(sure), "differ": differ,
            "model": "trained" if folder else "random weights"}  # fmt: skip


def resume(device: torch.device, size: Size) -> dict:
    """A run that is killed and started again against one that is not, both from disk as the workflow starts
    them: are the weights the same bits?"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = _start(folder, "whole", device, size)
        killed = _start(folder, "killed", device, size)
        states = folder / "killed-state"
        while killed.poll() is None and not list(states.glob("step-*/fingerprint.json")):
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        was_killed = killed.wait() == -signal.SIGKILL
        again = _start(folder, "killed", device, size)
        codes = [process.wait() for process in (whole, again)]
        if codes != [0, 0]:
            return {"ok": False, "exit codes": codes, "log": (folder / "killed.log").read_text()[-2000:]}
        distance, equal = 0.0, True
        for part in PARTS:
            one, other = (_weights(folder / run / "model" / part) for run in ("whole", "killed"))
            equal &= all(torch.equal(one[key], other[key]) for key in one)
            distance = max(distance, *(_distance(other[key], one[key]) for key in one if one[key].any()))
    return {"ok": was_killed and distance <= 1e-3, "killed": was_killed, "same bits": equal,
            "largest distance": distance, "tolerance": 1e-3}  # fmt: skip


def _start(folder: Path, name: str, device: torch.device, size: Size) -> subprocess.Popen:
    """A stage-1 run of 24 steps, its state saved every 4."""
    job = folder / f"{name}.json"
    if not (folder / "parent").exists():
        torch.manual_seed(0)
        model = build_model(size, torch.device("cpu"))
        model.save(folder / "parent/model")
        (folder / "parent/manifest.json").write_text("{}")
        write_mixture(folder, make_samples(model, size, "bbox2caption", REGIONS, 48))
    config = load_config("paper")
    recipe = resolve_recipe(config, "stage1-granvit")
    distillation = recipe.distillation.model_copy(update={"crop_size": size.crops[1]})
    changes = {"batch_size": 4, "epochs": 2, "save_every": 4, "eval_every": 0, "distillation": distillation}
    changes["precision"] = "bf16" if is_accelerator(device) else "fp32"
    job.write_text(
        Job(
            recipe=recipe.model_copy(update=changes), seed=0, encoder=config.encoders[recipe.encoder],
            llm=config.llms[recipe.llm], mixture=folder / "mixture.parquet", parent_dir=folder / "parent",
            out_dir=folder / name, state_dir=folder / f"{name}-state", device=str(device),
        ).model_dump_json(exclude_computed_fields=True)
    )  # fmt: skip
    log = (folder / f"{name}.log").open("ab")
    command = [sys.executable, "-m", "granvit.training.launch", str(job)]
    return subprocess.Popen(command, stdout=log, stderr=log, env=importing_environment())


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
