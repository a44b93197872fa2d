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
from granvit.files import file_hash, remove_leftovers, whole_folder, write_json
from granvit.models.mllm import MLLM, PARTS
from granvit.training.cost import forward_cost
from granvit.training.engine import Cluster, Engine
from granvit.training.job import Job
from granvit.training.log import TrainingLog


def hash_inputs(job: Job) -> dict[str, str]:
    """sha256 of everything the run reads: a finished run counts by its manifest, a published model by its
    files. Raises GranvitError where a file is missing."""
    files = {
        "mixture": job.mixture,
        "heldout": job.heldout,
        "tokens_of": job.matched,
        "parent": job.parent_dir and job.parent_dir / "manifest.json",
        "encoder_from": job.encoder_dir and job.encoder_dir / "manifest.json",
    }
    hashes = {name: hash_files([path]) for name, path in files.items() if path}
    if not job.parent_dir:
        hashes |= {"encoder": hash_model(job.encoder.path), "llm": hash_model(job.llm.path)}
    return hashes


def hash_files(paths: list) -> str:
    """One sha256 over the files' contents in the order given. Raises GranvitError where one is missing."""
    digest = hashlib.sha256()
    for path in paths:
        if not Path(path).is_file():
            raise GranvitError(f"run: {path} does not exist; make it with `snakemake {path}`")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def hash_model(path: str) -> str:
    """A local model folder by its configuration and weights; one file by its bytes; a hub id by its name."""
    folder = Path(path)
    if folder.is_file():
        return hash_files([folder])
    if not folder.is_dir():
        return f"hub:{path}"
    return hash_files(sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jinja", ".safetensors")))


def describe_model(model: MLLM, parts: tuple[str, ...]) -> dict:
    """Sizes and forward cost for the manifest, taken before ranks share the weights among them."""
    counts = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in PARTS}
    trained = sum(p.numel() for learning in model.parameters_of(parts).values() for p in learning)
    return {
        "parameters": {**counts, "total": sum(counts.values()), "trained": trained},
        "image_tokens": model.image_tokens,
        "forward": forward_cost(model, with_encoder="encoder" in parts),
    }


def make_manifest(job: Job, inputs: dict, described: dict, cluster: Cluster, summary: dict) -> dict:
    """What the run was: no times and no paths, so that equal runs have equal manifests."""
    return {
        "recipe": job.recipe.model_dump(),
        "recipe_hash": job.recipe.hash,
        "seed": job.seed,
        "inputs": inputs,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "step": job.recipe.step_version,
        },
        "device": describe_device(cluster.device),
        "ranks": cluster.size,
        "sharding": cluster.sharding,
        "threads": torch.get_num_threads(),
        **described,
        **summary,
    }


def write_outputs(job: Job, engine: Engine, model: MLLM, log: TrainingLog, manifest: dict) -> None:
    """Write the run's folder (the main rank does); manifest.json comes last and says that the others are
    whole."""
    weights = {part: engine.gathered(getattr(model, part)) for part in PARTS}
    if not engine.cluster.is_main:
        return
    final = job.out_dir / "model"
    remove_leftovers(final)
    with whole_folder(final) as folder:
        model.save(folder, weights)
        shutil.rmtree(final, ignore_errors=True)
    log.write(job.out_dir / "training_log.csv")
    write_json(job.out_dir / "timing.json", log.timing())
    write_json(job.manifest, manifest | {"files": described_files(job.out_dir)})


def described_files(run_dir: Path) -> dict[str, dict]:
    """Size and sha256 of every file of a run that equal runs have equal, for `granvit verify`."""
    files = [*sorted(path for path in (run_dir / "model").rglob("*") if path.is_file())]
    return {
        path.relative_to(run_dir).as_posix(): {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for path in [*files, run_dir / "training_log.csv"]
    }
