"""What a finished run leaves: model/, training_log.csv, timing.json and manifest.json, written last and
under temporary names."""

from __future__ import annotations

import hashlib
import platform
import shutil
from pathlib import Path

import torch
import transformers

from granvit.device import describe_device
from granvit.errors import GranvitError
from granvit.files import remove_leftovers, whole_folder, write_csv, write_json
from granvit.models.mllm import MLLM, PARTS
from granvit.training.cost import forward_cost
from granvit.training.engine import Cluster, Engine
from granvit.training.heldout import METRICS

LOG_COLUMNS = (
    "step", "images", "loss", "loss_caption", "loss_distill", "grad_norm", "feature_norm", "cosine",
    "lr_encoder", "lr_projector", "lr_llm", *METRICS,
)  # fmt: skip


def hash_inputs(encoder, llm, parent_dir, encoder_dir, mixture, heldout) -> dict[str, str]:
    """sha256 of everything the run reads: a finished run counts by its manifest, a published model by its
    files."""
    files = {"mixture": [mixture]}
    if heldout:
        files["heldout"] = [heldout]
    if parent_dir:
        files["parent"] = [Path(parent_dir) / "manifest.json"]
    if encoder_dir:
        files["encoder_from"] = [Path(encoder_dir) / "manifest.json"]
    hashes = {name: hash_files(paths) for name, paths in files.items()}
    if not parent_dir:
        hashes |= {name: hash_model(spec.path) for name, spec in (("encoder", encoder), ("llm", llm))}
    return hashes


def hash_files(paths: list) -> str:
    """One sha256 over the files' contents in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        if not Path(path).is_file():
            raise GranvitError(f"run: {path} does not exist; make it with `snakemake {path}`")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def hash_model(path: str) -> str:
    """A local model folder by its configuration and weights; a hub id by its name."""
    folder = Path(path)
    if not folder.is_dir():
        return f"hub:{path}"
    return hash_files(sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jinja", ".safetensors")))


def describe_model(model: MLLM, parts: tuple[str, ...]) -> dict:
    """Sizes and forward cost for the manifest, taken before ranks share the weights among them."""
    counts = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in PARTS}
    learning = {part: getattr(model, part) for part in parts}
    trained = [
        module.feature_parameters() if part == "encoder" else module.parameters()
        for part, module in learning.items()
    ]
    trained = sum(parameter.numel() for parameters in trained for parameter in parameters)
    return {
        "parameters": {**counts, "total": sum(counts.values()), "trained": trained},
        "image_tokens": model.image_tokens,
        "forward": forward_cost(model, with_encoder="encoder" in parts),
    }


def make_manifest(recipe, seed: int, inputs: dict, described: dict, cluster: Cluster, summary: dict) -> dict:
    """What the run was: no times and no paths, so that equal runs have equal manifests."""
    metrics = {name: None if value != value else value for name, value in summary["metrics"].items()}
    return {
        "recipe": recipe.model_dump(),
        "recipe_hash": recipe.hash,
        "seed": seed,
        "inputs": inputs,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "step": recipe.step_version,
        },
        "device": describe_device(cluster.device),
        "ranks": cluster.size,
        "sharding": cluster.sharding,
        "threads": torch.get_num_threads(),
        **described,
        "metrics": metrics,
        "skipped": summary["skipped"],
    }


def write_outputs(
    out_dir: Path, engine: Engine, model: MLLM, manifest: dict, rows: list[dict], timing: dict
) -> None:
    """Write the run's folder (the main rank does); manifest.json comes last and says that the others are
    whole."""
    weights = {part: engine.gathered(getattr(model, part)) for part in PARTS}
    if not engine.cluster.is_main:
        return
    remove_leftovers(out_dir / "model")
    with whole_folder(out_dir / "model") as folder:
        model.save(folder, weights)
        shutil.rmtree(out_dir / "model", ignore_errors=True)
    cells = ([_cell(row.get(name)) for name in LOG_COLUMNS] for row in rows)
    write_csv(out_dir / "training_log.csv", LOG_COLUMNS, cells)
    write_json(out_dir / "timing.json", timing)
    write_json(out_dir / "manifest.json", manifest)


def _cell(value: float | int | None) -> str:
    if value is None or value != value:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
