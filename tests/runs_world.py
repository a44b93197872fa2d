"""A folder of results with finished runs of random weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

from evaluation_world import save_model
from factories import make_recipe

PARENTS = {"projector": None, "stage1": "projector-a", "stage2": "stage1-a", "sft": "stage2-a"}


def make_runs(results: Path) -> Path:
    """projector-a -> stage1-a -> stage2-a -> sft-a at scale mini, all with one and the same model, finished
    in this order; sft-a has predictions and scores, and a second seed whose model has been removed."""
    model = save_model(results.parent / "made")
    for number, (stage, parent) in enumerate(PARENTS.items()):
        folder = make_run(results, f"{stage}-a", stage, parent, finished=1000 + number)
        (folder / "model").symlink_to(model)
    make_run(results, "sft-a", "sft", "stage2-a", seed=1, finished=2000, metrics={"loss": 0.25, "step": 7})
    of_run = Path("sft-a") / "seed0"
    for kind, name in (("predictions", "GQA.jsonl"), ("scores", "GQA.json")):
        (results / "mini" / kind / of_run).mkdir(parents=True)
        score = {"benchmark": "GQA", "score": 53.0, "interval": [42.5, 63.0], "n": 100, "rule": "exact_match"}
        (results / "mini" / kind / of_run / name).write_text(json.dumps(score))
    return results


def make_run(results: Path, name: str, stage: str, parent: str | None, finished: float, **changes) -> Path:
    """A run's folder with everything but its model; ``finished``: the time of its manifest."""
    seed = changes.pop("seed", 0)
    recipe = make_recipe(stage, name=name, parent=parent, scale="mini", mixture=f"{stage}-all").model_dump()
    folder = results / "mini" / stage / name / f"seed{seed}"
    folder.mkdir(parents=True)
    manifest = {
        "recipe": recipe, "recipe_hash": "0" * 64, "seed": seed,
        "inputs": {"mixture": "1" * 64}, "versions": {"step": 3},
        "parameters": {"encoder": 10, "projector": 2, "llm": 30, "total": 42, "trained": 12},
        "metrics": {"loss": 0.5, "step": 10, "images": 40}, "image_tokens": 16,
    } | changes  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "timing.json").write_text(json.dumps({"seconds": 75.2, "images_per_second": 4.0}))
    os.utime(folder / "manifest.json", (finished, finished))
    return folder
