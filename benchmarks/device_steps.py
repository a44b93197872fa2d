"""The steps of on_device.py, as a worker process does them: checks (device_checks) and measures
(bench_stage), at real size on an accelerator and at tiny size on a CPU."""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections import Counter
from pathlib import Path

import accelerate
import device_checks
import torch
import transformers
from bench_stage import PEAK_TFLOPS, cases, measure, rounded, start
from stage_model import SIZES, build_model, make_samples
from stage_work import Clock
from torch.profiler import ProfilerActivity, profile

from granvit.device import autocast, describe_device, is_accelerator, seed_everything

TERA = 1e12


class Steps:
    """Each method is a step and returns its numbers. ``device``: by name; ``model``: folder of a trained
    model or None; ``images``: of a micro-batch at most, fewer where memory ends."""

    def __init__(self, device: str, model: str | None, images: int) -> None:
        self.device, self.model, self.images = torch.device(device), model, images
        self.fast = is_accelerator(self.device)
        self.size = "real" if self.fast else "tiny"
        self.rate = None  # TFLOP/s of a large product here
        if not self.fast:
            torch.set_num_threads(1)
        seed_everything(0)

    def machine(self) -> dict:
        """What this is, and how fast it multiplies bf16 matrices of random numbers."""
        self.rate = self._product_rate()
        backend = getattr(torch, self.device.type) if self.fast else None
        memory = backend.get_device_properties(self.device).total_memory / 2**30 if backend else None
        return rounded({
            "device": describe_device(self.device), "memory GiB": memory,
            "nominal TFLOP/s": PEAK_TFLOPS.get(self.device.type), "product TFLOP/s": self.rate,
            "python": platform.python_version(), "torch": torch.__version__,
            "transformers": transformers.__version__, "accelerate": accelerate.__version__,
        })  # fmt: skip

    def packed_batch(self) -> dict:
        return rounded(device_checks.packed_batch(self.device, SIZES["slice" if self.fast else "tiny"]))

    def region_features(self) -> dict:
        return rounded(device_checks.region_features(self.device, SIZES[self.size]))

    def resume(self) -> dict:
        return rounded(device_checks.resume(self.device, SIZES["tiny"]))

    def answers(self) -> dict:
        return rounded(device_checks.answers(self.device, SIZES["tiny"], self.model))

    def stage(self, case: str, variant: dict) -> dict:
        """Some steps of a stage, which have to bring the loss down; the micro-batch is halved until it
        fits."""
        chosen, choice = self._case(case), variant["deterministic"]
        torch.use_deterministic_algorithms(choice != "no", warn_only=choice == "warn")
        torch.compiler.reset()
        images = self.images * variant.get("more", 1) if self.fast else 4
        while True:
            try:
                model = build_model(SIZES[self.size], self.device)
                found = measure(chosen, model, self._settings(variant, images), Clock(self.device))
                break
            except torch.OutOfMemoryError:
                images //= 2
                if not images:
                    raise
        if self.rate:
            found["of measured rate"] = found["TFLOP/s"] / self.rate
        return rounded({"ok": found["loss"][1] < found["loss"][0], "case": chosen.name, **variant,
                        "images": images, **found})  # fmt: skip

    def prediction(self) -> dict:
        """Questions and tokens a second, four questions an image, answers of 32 tokens: in fp32, as the rule
        predicts, and with bf16 products."""
        model = build_model(SIZES[self.size], self.device).eval()
        samples = list(make_samples(model, SIZES[self.size], "instruction", (3,), 16 if self.fast else 2))
        owners = [row for row, (_, pairs) in enumerate(samples) for _ in pairs]
        texts = [pair["question"] for _, pairs in samples for pair in pairs]
        pixels = torch.stack([model.preprocess(image) for image, _ in samples]).to(self.device)
        tokens, found, clock = 32, {"questions": len(texts), "tokens an answer": 32}, Clock(self.device)
        for precision in ("fp32", "bf16"):

            def ask(precision: str = precision) -> None:
                with torch.inference_mode(), autocast(self.device, precision):
                    model.answer(model.encode_images(pixels), texts, tokens, owners)

            ask()
            seconds, _ = clock(ask)
            found[f"{precision} questions/s"] = len(texts) / seconds
            found[f"{precision} tokens/s"] = len(texts) * tokens / seconds
        return rounded(found)

    def kernels(self, case: str, variant: dict) -> dict:
        """Where the device's time of one step goes: the kernels that take most of it."""
        chosen, settings = self._case(case), self._settings(variant, self.images if self.fast else 4)
        kind = ProfilerActivity.CUDA if self.device.type == "cuda" else ProfilerActivity.CPU
        with tempfile.TemporaryDirectory() as folder:
            model = build_model(SIZES[self.size], self.device)
            trainer = start(chosen, model, settings, Path(folder))
            for number in range(settings.warm_up):
                trainer.step(number)
            clock = Clock(self.device)
            with profile(activities=[kind]) as profiler:
                seconds, _ = clock(lambda: trainer.step(settings.warm_up))
        spent = Counter()
        for event in profiler.key_averages():
            time = event.self_device_time_total if self.fast else event.self_cpu_time_total
            spent[event.key[:70]] += time / 1000
        return rounded({"step ms": 1000 * seconds, "kernels ms": spent.total(),
                        "top ms": dict(spent.most_common(30))})  # fmt: skip

    def _case(self, name: str):
        large, small = SIZES[self.size].crops
        names = {"stage1": f"stage1, crops {large}", "stage1 small crops": f"stage1, crops {small}",
                 "stage1 apart": f"stage1 apart, crops {small}"}  # fmt: skip
        return next(one for one in cases(SIZES[self.size]) if one.name == names.get(name, name))

    def _settings(self, variant: dict, images: int) -> argparse.Namespace:
        steps, warm_up = (12, 4) if self.fast else (4, 2)
        return argparse.Namespace(
            device=self.device, size=self.size, images=images, steps=steps, warm_up=warm_up,
            attention=variant["attention"], compile=variant["compile"], frozen_bf16=variant["frozen_bf16"],
            peak_tflops=PEAK_TFLOPS.get(self.device.type), workers=6 if self.fast else 1,
            precision="bf16" if self.fast else "fp32",
        )  # fmt: skip

    def _product_rate(self) -> float:
        side, dtype = (8192, torch.bfloat16) if self.fast else (512, torch.float32)
        one, other = (torch.randn(side, side, device=self.device, dtype=dtype) for _ in range(2))
        clock, repeats = Clock(self.device), 20
        for _ in range(3):
            one @ other
        seconds, _ = clock(lambda: [one @ other for _ in range(repeats)])
        return 2 * side**3 * repeats / seconds / TERA
