"""Every stage's training step at the published sizes (SigLIP2-so400m at 512 px, Qwen2.5-1.5B, random
weights): images per second, MFU, peak memory, and where the time goes.

The steps are those of the project's Trainer on the paper's recipes, bf16 autocast over fp32 weights on an
accelerator: JPEG images read, decoded, tokenised and packed by its Batches, forward, backward, clipping,
AdamW, the teacher's step. A region is 45 prompt and 20 answer tokens, a global caption 30 and 150. Stage 1
has 4.5 regions an image beside its global caption, all of them distilled; stage 2 has 0.8; SFT asks as much
about an image as stage 1. `apart` is stage 1 with one sample a question-answer pair (benchmarks/stage_work.py
says how it is cut). One micro-batch is one step, which counts the optimizer at its dearest.

TFLOP/s: images/s x FLOPs of forward and backward an image (granvit.training.cost); MFU: that over
`--peak-tflops`; padding: share of the LLM's positions that hold nothing; estimate: what granvit.training.cost
says of the peak. The mixture is two steps long, so that the loss falls while the steps go round. The parts of
a step are timed by themselves on one batch, with the device synchronised around each; making the batch
(`data`) is timed in this process, while the steps have it made ahead by `--workers`. On a CPU everything is
tiny (144 image tokens, texts a sixth as long, fp32, one thread) and says only that the benchmark runs.

The last line is JSON: `ours` and `baseline` are stage 1 with small crops, packed and apart. Run it from the
repository's root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from stage_model import SIZES, Size, build_model, make_samples
from stage_work import GIB, Clock, make_trainer, write_mixture

from granvit.config.compute import RunCompute
from granvit.config.loading import load_config
from granvit.config.recipes import resolve_recipe
from granvit.device import autocast, describe_device, pick_device, seed_everything
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.training.batches import MicroBatch
from granvit.training.cost import Work, training_cost, training_memory
from granvit.training.loop import Trainer
from granvit.training.stages import learning_parts

TERA = 1e12
PEAK_TFLOPS = {"cuda": 989, "npu": 354}  # bf16, as stated: of an H100 or H200; of an Ascend 910B
ROUND = 2  # steps that the mixture lasts for
REPEATS = 3  # of the parts; the fastest counts
PARTS = ("data", "encoder", "llm", "teacher", "optimizer")


@dataclass(frozen=True)
class Case:
    """One line of the table. ``regions``: an image's, one number an image in turn; ``crops``: pixels of the
    teacher's crops, 0 without one."""

    name: str
    run: str
    task: str
    regions: tuple[int, ...]
    crops: int = 0
    packed: bool = True


def cases(size: Size) -> list[Case]:
    crops = size.crops
    stage1 = ("stage1-granvit", "bbox2caption", (4, 5))
    return [
        Case("projector", "projector-siglip2", "global_caption", (0,)),
        *(Case(f"stage1, crops {side}", *stage1, side) for side in crops),
        Case(f"stage1 apart, crops {crops[1]}", *stage1, crops[1], packed=False),
        Case("stage2", "stage2-granvit", "caption2bbox", (0, 1, 1, 1, 1)),
        Case("sft", "sft-granvit", "instruction", (4, 5)),
    ]


def split(trainer: Trainer, clock: Clock) -> dict[str, float]:
    """Milliseconds an image of each part of a step; the fastest of a few times."""
    rounds = [_split_once(trainer, clock) for _ in range(REPEATS)]
    images = trainer.recipe.batch_size
    return {part: 1000 * min(once[part] for once in rounds) / images for part in PARTS}


def _split_once(trainer: Trainer, clock: Clock) -> dict[str, float]:
    spent = dict.fromkeys(PARTS, 0.0)
    spent["data"], batch = clock(lambda: trainer.batches[0])
    for micro in batch.micros:
        with autocast(trainer.cluster.device, trainer.recipe.precision):
            _split_micro(trainer, micro, clock, spent)

    def optimize() -> None:
        trainer.engine.step()
        if trainer.teacher:
            trainer.teacher.update()

    spent["optimizer"], _ = clock(optimize)
    return spent


def _split_micro(trainer: Trainer, micro: MicroBatch, clock: Clock, spent: dict[str, float]) -> None:
    """Forward and backward of each part; gradients from behind are ones, which cost the same."""
    model, teacher, device = trainer.model, trainer.teacher, trainer.cluster.device
    learns = learning_parts(trainer.recipe)
    views = model.encoder.normalise(micro.pixels.to(device).flatten(0, -4))

    def encode() -> torch.Tensor:
        with torch.set_grad_enabled("encoder" in learns):
            features = model.encoder(views)
        if features.requires_grad:
            features.backward(torch.ones_like(features))
        return features.detach().requires_grad_("encoder" in learns)

    def speak() -> None:
        packed = micro.packed.to(device)
        model.token_losses(model.projector(model.join_views(features)), packed).mean().backward()

    def teach() -> None:
        teacher.loss(features, views, micro.regions.to(device))[0].backward()

    seconds, features = clock(encode)
    spent["encoder"] += seconds
    spent["llm"] += clock(speak)[0]
    if teacher:
        spent["teacher"] += clock(teach)[0]


def measure(case: Case, model: MLLM, settings: argparse.Namespace, clock: Clock) -> dict:
    """Train ``case`` for some steps, and its parts by themselves."""
    clock.forget_peak()
    with tempfile.TemporaryDirectory() as folder:
        trainer = start(case, model, settings, Path(folder))
        first, losses = clock(lambda: _losses(trainer, range(settings.warm_up)))
        seconds, more = clock(lambda: _losses(trainer, range(settings.warm_up, trainer.steps)))
        losses += more
        if not all(loss == loss for loss in losses):
            raise GranvitError(f"bench_stage: {case.name}: the loss is NaN")
        peak, parts = clock.peak(), split(trainer, clock)
        micros = trainer.batches[0].micros
    work = make_work(case, trainer.recipe, SIZES[settings.size])
    flops = training_cost(model, work)["total"]
    positions = [micro.packed.segments.numel() for micro in micros]
    empty = sum(n * micro.packed.padding for n, micro in zip(positions, micros, strict=True))
    rate = settings.images * settings.steps / seconds
    tflops = rate * flops / TERA
    return {
        "images/s": rate, "TFLOP/image": flops / TERA, "TFLOP/s": tflops,
        "MFU": tflops / settings.peak_tflops if settings.peak_tflops else None,
        "peak GiB": peak, "estimate GiB": estimate(model, work, settings) if case.packed else None,
        "padding": empty / sum(positions), "loss": [mean(losses[:ROUND]), mean(losses[-ROUND:])],
        "warm-up s": first, "step ms/image": 1000 / rate, "split ms/image": parts,
    }  # fmt: skip


def start(case: Case, model: MLLM, settings: argparse.Namespace, folder: Path) -> Trainer:
    """The trainer of ``case`` on a mixture of its own in ``folder``."""
    samples = make_samples(model, SIZES[settings.size], case.task, case.regions, settings.images * ROUND)
    compute = RunCompute(
        attention=settings.attention, data_workers=settings.workers, compile=settings.compile,
        frozen_bf16=settings.frozen_bf16,
    )  # fmt: skip
    return make_trainer(
        model, make_recipe(case, settings), write_mixture(folder, samples), settings.device, compute,
        case.packed, keep=False, steps=settings.warm_up + settings.steps,
    )  # fmt: skip


def _losses(trainer: Trainer, steps: range) -> list[float]:
    return [trainer.step(number)["loss"] for number in steps]


def make_work(case: Case, recipe, size: Size) -> Work:
    """What ``case`` trains with an average image."""
    average, texts = mean(case.regions), size.texts()
    return Work(
        learning_parts(recipe), average, texts["caption"], texts["region"], case.packed,
        crops=average if case.crops else 0, crop_size=case.crops,
    )  # fmt: skip


def estimate(model: MLLM, work: Work, settings: argparse.Namespace) -> float | None:
    """GiB that a step should take, where memory is counted at all."""
    if settings.device.type == "cpu":
        return None
    return training_memory(model, work, settings.images, settings.frozen_bf16)["total"] / GIB


def make_recipe(case: Case, settings: argparse.Namespace):
    """The paper's recipe with this benchmark's batch and crops. All regions are distilled: it allows 8."""
    recipe = resolve_recipe(load_config("paper"), case.run)
    changes = {"batch_size": settings.images, "precision": settings.precision}
    if case.crops:
        changes["distillation"] = recipe.distillation.model_copy(update={"crop_size": case.crops})
    return recipe.model_copy(update=changes)


def measure_all(settings: argparse.Namespace) -> dict[str, dict]:
    """Each case's results by its name."""
    clock, size, results = Clock(settings.device), SIZES[settings.size], {}
    for case in cases(size):
        model = build_model(size, settings.device)  # compiled layers and bf16 weights are not taken back
        try:
            results[case.name] = measure(case, model, settings, clock)
        except RuntimeError as error:  # of whatever class the device's backend has for it
            if "out of memory" not in str(error).lower():
                raise
            fewer = max(settings.images // 2, 1)
            sys.exit(f"error: {case.name} ran out of memory; try --images {fewer} (now {settings.images})")
        print(f"{case.name}: {results[case.name]['images/s']:.2f} images/s", file=sys.stderr, flush=True)
    return results


def show(results: dict[str, dict]) -> None:
    """The two tables: speed, and where the time of an image goes."""

    def cell(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    columns = {"images/s": 2, "TFLOP/image": 4, "TFLOP/s": 1, "MFU": 3, "peak GiB": 1, "estimate GiB": 1,
               "padding": 3}  # fmt: skip
    print(f"{'stage':24}" + "".join(f"{name:>13}" for name in columns))
    for name, row in results.items():
        cells = (cell(row[column], digits) for column, digits in columns.items())
        print(f"{name:24}" + "".join(f"{text:>13}" for text in cells))
    print(f"\n{'ms an image':24}" + "".join(f"{part:>11}" for part in (*PARTS, "step")))
    for name, row in results.items():
        times = [*row["split ms/image"].values(), row["step ms/image"]]
        print(f"{name:24}" + "".join(f"{cell(value, 2):>11}" for value in times))


def parse() -> argparse.Namespace:
    """The command line, with what the device decides filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto (default), cuda, npu or cpu")
    parser.add_argument("--size", choices=tuple(SIZES), help="default: tiny on a CPU, else real")
    parser.add_argument("--images", type=int, help="of a micro-batch (default: 8; 4 on a CPU)")
    parser.add_argument("--steps", type=int, help="timed for each line (default: 10; 2 on a CPU)")
    parser.add_argument("--attention", choices=("auto", "flex", "sdpa"), default="auto")
    parser.add_argument("--compile", action="store_true", help="compute.compile")
    parser.add_argument("--frozen-bf16", action="store_true", help="compute.frozen_bf16")
    parser.add_argument("--peak-tflops", type=float, help="of MFU; default: 989 (H100), 354 on npu (910B)")
    parser.add_argument(
        "--workers", type=int, help="that make batches ahead (default: 6 at most; 0 on a CPU)"
    )
    settings = parser.parse_args()
    settings.device = pick_device(settings.device)
    slow = settings.device.type == "cpu"
    workers = min(6, max((os.cpu_count() or 2) - 2, 0))
    on_cpu = {"size": "tiny", "images": 4, "steps": 2, "peak_tflops": None, "workers": 0}
    peak = PEAK_TFLOPS.get(settings.device.type)
    elsewhere = {"size": "real", "images": 8, "steps": 10, "peak_tflops": peak, "workers": workers}
    for name, value in (on_cpu if slow else elsewhere).items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    settings.warm_up = 1 if slow else 3  # kernels are compiled and tuned in the first steps
    settings.precision = "fp32" if slow else "bf16"
    return settings


def rounded(value):
    """Numbers to four significant digits, for the JSON line."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    try:
        settings = parse()
        if settings.device.type == "cpu":
            torch.set_num_threads(1)
        seed_everything(0)
        results = measure_all(settings)
    except GranvitError as error:
        sys.exit(f"error: {error}")
    show(results)
    crop = SIZES[settings.size].crops[1]
    ours, baseline = (results[f"{name}, crops {crop}"]["images/s"] for name in ("stage1", "stage1 apart"))
    line = {"benchmark": "stage", "ours": ours, "baseline": baseline, "unit": "images/s",
            "ratio": ours / baseline, "device": describe_device(settings.device), "size": settings.size,
            "images": settings.images, "steps": settings.steps, "attention": settings.attention,
            "peak_tflops": settings.peak_tflops, "stages": results}  # fmt: skip
    print(json.dumps(rounded(line)))


if __name__ == "__main__":
    main()
