"""Benchmarks run, and end with one line of JSON that a program can read. How fast is not asked here."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from conftest import ROOT, last_line

from granvit.config.compute import RunCompute
from granvit.models.packing import row_length

KEYS = ("benchmark", "ours", "baseline", "unit", "ratio")


def is_ratio(ratio: float, ours: float, baseline: float) -> bool:
    """Whether ``ratio`` is one of the two, as far as figures of one decimal can tell."""
    smallest = (ours - 0.05) / (baseline + 0.05)
    largest = (ours + 0.05) / (baseline - 0.05) if baseline > 0.05 else float("inf")
    return smallest - 0.01 <= ratio <= largest + 0.01


def run_benchmark(name: str, *options: str, unit: str = "images/s") -> dict:
    """Start a benchmark as its docstring says, from the repository's root; its last line, read."""
    line = last_line(f"bench_{name}", *options)
    assert [key for key in KEYS if key in line] == list(KEYS)
    assert line["benchmark"] == name and line["unit"] == unit
    assert line["ours"] > 0 and line["baseline"] > 0
    assert is_ratio(line["ratio"], line["ours"], line["baseline"])
    return line


def test_bench_packing_ends_with_its_line():
    line = run_benchmark("packing", "--images", "8", "--seconds", "0.1")
    assert all(line[key] > 0 for key in ("ratio_to_fastest", "ratio_at_4.5", "ratio_to_fastest_at_4.5"))


def test_bench_stage_ends_with_its_line_and_measures_every_stage():
    line = run_benchmark("stage", "--device", "cpu", "--steps", "1", "--images", "2")
    names = {name.split(",")[0] for name in line["stages"]}
    assert names == {"projector", "stage1", "stage1 apart", "stage2", "sft"}
    for name, stage in line["stages"].items():
        assert stage["images/s"] > 0 and stage["TFLOP/image"] > 0, name
        parts = stage["split ms/image"]
        assert all(parts[part] > 0 for part in ("data", "encoder", "llm", "optimizer")), name
        assert (parts["teacher"] > 0) == name.startswith("stage1"), name


@pytest.mark.slow
def test_bench_fork_server_ends_with_its_line():
    run_benchmark("fork_server", "--jobs", "2", unit="jobs/h")


@pytest.mark.slow
def test_bench_threads_ends_with_its_line():
    run_benchmark("threads", "--seconds", "0.1", "--warm-up", "0")


@pytest.fixture
def bench(monkeypatch):
    """The benchmarks' modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def make_trainers(bench, folder: Path, images: int = 4):
    """bench_stage's tiny model on a small stage-1 mixture: the trainer packed, and apart."""
    model_module, work_module, stage = bench("stage_model"), bench("stage_work"), bench("bench_stage")
    size, cpu = model_module.SIZES["tiny"], torch.device("cpu")
    torch.manual_seed(0)
    case = next(case for case in stage.cases(size) if case.run == "stage1-granvit")
    settings = stage.argparse.Namespace(images=images, precision="fp32")
    recipe, model = stage.make_recipe(case, settings), model_module.build_model(size, cpu)
    samples = model_module.make_samples(model, size, case.task, case.regions, images)
    mixture = work_module.write_mixture(folder, samples)
    return [
        work_module.make_trainer(model, recipe, mixture, cpu, RunCompute(), packed, keep=False)
        for packed in (True, False)
    ]


def test_baseline_of_packing_is_every_pair_and_region_once_each_with_its_image(bench, tmp_path):
    packed, apart = (trainer.batches[0] for trainer in make_trainers(bench, tmp_path))
    totals = [torch.tensor([micro.counts() for micro in batch.micros]).sum(0) for batch in (packed, apart)]
    assert totals[0][:2].tolist() == totals[1][:2].tolist()  # supervised tokens, distilled regions
    assert totals[0][1] == 18  # 4.5 an image
    pairs = sum(int(micro.packed.segment_index[-1]) + 1 for micro in packed.micros)
    assert totals[1][2] == pairs == 22  # rows: a global caption and the regions of each image
    for micro in apart.micros:
        for box, view in zip(micro.regions.boxes, micro.regions.views, strict=True):
            assert micro.rows[view].box is not None and len(box) == 4
    positions = packed.micros[0].packed.position_ids.numel()
    assert all(micro.packed.position_ids.numel() <= positions for micro in apart.micros)


@pytest.mark.parametrize("size", ["real", "tiny"])
def test_texts_of_bench_stage_have_the_lengths_that_its_cost_counts(bench, tmp_path, size):
    module, work_module = bench("stage_model"), bench("stage_work")
    chosen = module.SIZES[size]
    model = module.build_model(module.SIZES["tiny"], torch.device("cpu"))
    mixture = work_module.write_mixture(
        tmp_path, module.make_samples(model, chosen, "bbox2caption", (4, 5), 2)
    )
    tasks = ("global_caption", "bbox2caption")
    examples = work_module.Examples(mixture, model, tasks, False)
    lengths = chosen.texts()
    for image, regions in enumerate((4, 5)):
        segments = examples[image].segments
        found = [(len(segment.ids) - segment.supervised, segment.supervised) for segment in segments]
        assert found == [lengths["caption"]] + regions * [lengths["region"]]
        assert row_length(segments, model.chat, 0) >= sum(map(sum, found))
