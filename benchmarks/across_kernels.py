"""How far a baseline's scores move with the CPU's kernels: one training and prediction under two of them.

Other machines add the same numbers in another order. One machine can do so too: environment variables limit
the instructions of PyTorch's own kernels (ATEN_CPU_CAPABILITY), of oneDNN (ONEDNN_MAX_CPU_ISA) and of MKL
(MKL_CBWR). Which of them change anything depends on the machine: `--bits` says so, in seconds.

    python benchmarks/across_kernels.py --bits
    python benchmarks/across_kernels.py [--scale mini] [--recipe sft-siglip2] [--kernel "A=x B=y"]
    python benchmarks/across_kernels.py --compare SCORES SCORES    # score folders of two machines

A run trains the recipe and all that it starts from, answers the benchmarks and scores them, once as the
machine is and once under `--kernel`, below `--out`; what is finished there is not done again. Mixtures and
benchmarks have to lie in `results/{scale}` (it names the command). Prints one JSON line last: for each
benchmark both scores, their difference and half the width of the first one's 95 % interval; `beyond` lists
those that moved by more than that, `ratio` is the largest move in half widths. Run it from the repository's
root.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from granvit.config.recipes import Recipe
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.files import read_json
from granvit.graph import runs
from granvit.graph.scale import Scale
from granvit.processes import THREADS, importing_environment

LOWEST = "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE"
TRIED = (
    *LOWEST.split(),
    "MKL_ENABLE_INSTRUCTIONS=SSE4_2",
    "OMP_NUM_THREADS=2 MKL_NUM_THREADS=2",
    LOWEST,
)  # by --bits
PLAIN, CHANGED = "plain", "changed"  # folders of the two


def kernel_of(text: str) -> dict[str, str]:
    """``A=x B=y`` as environment variables. Raises argparse's error for anything else."""
    pairs = [part.partition("=") for part in text.split()]
    if not pairs or not all(name.isidentifier() and value for name, _, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=value, several with spaces between them")
    return {name: value for name, _, value in pairs}


def compared(first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]) -> dict:
    """Two models' score files, by benchmark, side by side; a score that did not move is within its interval,
    whatever that is. Raises GranvitError where the two do not have the same benchmarks."""
    if not first or first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise GranvitError(f"scores: {odd or 'none'} in one folder only; score both on the same benchmarks")
    rows = []
    for name, score in first.items():
        low, high = score["interval"]
        moved, half = second[name]["score"] - score["score"], (high - low) / 2
        rows.append({
            "row": name, "first": round(score["score"], 2), "second": round(second[name]["score"], 2),
            "difference": round(moved, 2), "half_width": round(half, 2), "n": score["n"],
            "within": abs(moved) < half or moved == 0,
        })  # fmt: skip
    moves = [abs(row["difference"]) / row["half_width"] for row in rows if row["half_width"]]
    return {
        "rows": rows,
        "beyond": [row["row"] for row in rows if not row["within"]],
        "ratio": round(max(moves, default=0.0), 2),
    }


def read_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """The score files of a folder, by benchmark. Raises GranvitError where there is none."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise GranvitError(f"{folder}: no score files there; expected results/SCALE/scores/RECIPE/seedN")
    return {file.stem: read_json(file) for file in files}


def chain(scale: Scale, name: str) -> list[Recipe]:
    """A recipe and all that it starts from, in the order in which they have to be trained."""
    recipe = scale.recipe(name)
    before = [run for other in (recipe.parent, recipe.encoder_from) if other for run in chain(scale, other)]
    return [*{run.name: run for run in [*before, recipe]}.values()]


def require_inputs(scale: Scale, recipes: Sequence[Recipe]) -> None:
    """Raise GranvitError, with the command, where a mixture or a benchmark is missing."""
    wanted = [mixture_file(scale, name) for name in runs.mixtures_of(recipes)]
    wanted += [Path(scale.config.data.benchmarks) / tsv for tsv in sorted({b.tsv for b in load_benchmarks()})]
    missing = [str(file) for file in wanted if not file.is_file()]
    if missing:
        raise GranvitError(
            f"{missing[0]}: no such file; make what is missing with "
            f"`snakemake {' '.join(missing)} --config scale={scale.name}`"
        )


def mixture_file(scale: Scale, name: str) -> Path:
    return Path(f"results/{scale.name}/data/mixtures/{name}.parquet")


def train_and_score(scale: Scale, name: str, seed: int, out: Path) -> None:
    """Train a recipe with its ancestors, answer the benchmarks with it and score the answers, all below
    ``out``; by the code of the workflow's rules."""
    from granvit.evaluation.asks import PredictionJob
    from granvit.evaluation.judge import make_judge
    from granvit.evaluation.launch import predict_shard
    from granvit.evaluation.score import write_score
    from granvit.training.job import Job
    from granvit.training.launch import launch

    def folder(recipe: str) -> Path:
        return out / scale.recipe(recipe).stage / recipe

    for recipe in chain(scale, name):
        settings = runs.run_settings(scale, recipe.name)
        job = Job(
            recipe=recipe,
            encoder=settings["encoder"],
            llm=settings["llm"],
            seed=seed,
            mixture=mixture_file(scale, recipe.mixture),
            heldout=mixture_file(scale, "heldout") if recipe.eval_every else None,
            parent_dir=folder(recipe.parent) if recipe.parent else None,
            encoder_dir=folder(recipe.encoder_from) if recipe.encoder_from else None,
            out_dir=folder(recipe.name),
            state_dir=out / "state" / recipe.name,
            device="cpu",
            compute=scale.config.compute.for_run(recipe),
        )
        if not job.manifest.is_file():
            launch(job, None, 0, 1)
    benchmarks, questions = load_benchmarks(), Path(scale.config.data.benchmarks)
    predict_shard(
        PredictionJob(
            model_dir=folder(name) / "model",
            benchmarks=benchmarks,
            data_dir=questions,
            out_dir=out / "predictions",
            batch_size=scale.config.evaluation.batch_size,
            device="cpu",
        )
    )
    judge = make_judge(scale.config.evaluation.judge)
    for one in benchmarks:
        answers, verdicts = (out / kind / f"{one.slug}.jsonl" for kind in ("predictions", "verdicts"))
        write_score(answers, one, questions, out / "scores" / f"{one.slug}.json", judge, print, verdicts)


def operations() -> dict[str, str]:
    """What this process's kernels make of the same numbers: a hash of the bits of each result."""
    import hashlib

    import numpy as np
    import torch
    from torch.nn import functional as F

    draw = np.random.default_rng(0)  # not torch's, which are kernels too

    def numbers(*shape: int) -> torch.Tensor:
        return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))

    x, weights, heads = numbers(8, 96, 128), numbers(512, 128), numbers(8, 4, 96, 32)
    torch.manual_seed(0)
    results = {
        "matrix product": x @ weights.T,
        "convolution": F.conv2d(numbers(4, 3, 128, 128), numbers(128, 3, 16, 16), stride=16),
        "layer norm": F.layer_norm(x, (128,)),
        "softmax": x.softmax(-1),
        "GELU": F.gelu(x),
        "GELU of tanh": F.gelu(x, approximate="tanh"),
        "SiLU": F.silu(x),
        "attention": F.scaled_dot_product_attention(heads, heads, heads, is_causal=True),
        "cross-entropy": F.cross_entropy(numbers(700, 500), torch.arange(700) % 500),
        "sum": torch.stack([numbers(200, 1000).sum() for _ in range(8)]),
        "bicubic": F.interpolate(numbers(1, 3, 64, 64), (40, 40), mode="bicubic", antialias=True),
        "randn": torch.randn(4096),
    }
    return {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in results.items()
    }


def bits(threads: int) -> dict[str, Any]:
    """Which operations change a bit under each of TRIED."""

    def made(variables: Mapping[str, str]) -> dict[str, str]:
        return json.loads(_child(["--operations"], variables, threads).splitlines()[-1])

    plain = made({})
    changes = {text: made(kernel_of(text)) for text in TRIED}
    return {text: [name for name in plain if found[name] != plain[name]] for text, found in changes.items()}


def _child(arguments: Sequence[str], variables: Mapping[str, str], threads: int, quiet: bool = True) -> str:
    """This script in a process of its own, since libraries read the variables once. Raises GranvitError
    where it fails."""
    environment = importing_environment() | dict.fromkeys(THREADS, str(threads)) | dict(variables)
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE if quiet else None)
    if done.returncode:
        raise GranvitError(f"under {dict(variables) or 'no variable'}: ended with code {done.returncode}")
    return done.stdout or ""


def across(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both runs, each in a process of its own, and what came out."""
    scale, seed = Scale(arguments.scale), arguments.seed
    require_inputs(scale, chain(scale, arguments.recipe))
    name = "-".join(f"{key}={value}" for key, value in sorted(arguments.kernel.items()))
    base = Path(arguments.out) / scale.name / arguments.recipe / f"seed{seed}"
    folders = [base / PLAIN, base / f"{CHANGED}-{name}"]
    for folder, variables in zip(folders, ({}, arguments.kernel), strict=True):
        run = ["--scale", scale.name, "--recipe", arguments.recipe, "--seed", str(seed), "--one", str(folder)]
        _child(run, variables, arguments.threads, quiet=False)
    model = f"{scale.recipe(arguments.recipe).stage}/{arguments.recipe}/model"
    files = [sorted((folder / model).rglob("*.safetensors")) for folder in folders]
    return {
        "scale": scale.name, "recipe": arguments.recipe, "seed": seed, "kernel": arguments.kernel,
        # If so, the variables changed nothing
        "same_weights": all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True)),
        **compared(*(read_scores(folder / "scores") for folder in folders)),
    }  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("--bits", action="store_true", help="only say which variables change which operations")
    line.add_argument("--compare", nargs=2, type=Path, metavar="SCORES", help="two folders of score files")
    line.add_argument("--scale", default="mini", choices=["mini", "smoke"])
    line.add_argument("--recipe", default="sft-siglip2")
    line.add_argument("--seed", type=int, default=100)
    line.add_argument("--kernel", type=kernel_of, default=LOWEST, help=f"variables ({LOWEST})")
    line.add_argument("--threads", type=int, default=1)
    line.add_argument("--out", default="state/across_kernels")
    line.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # what the processes do
    line.add_argument("--operations", action="store_true", help=argparse.SUPPRESS)
    return line


def main(arguments: argparse.Namespace) -> None:
    """Do what was asked."""
    if arguments.operations:
        print(json.dumps(operations()))
    elif arguments.one:
        train_and_score(Scale(arguments.scale), arguments.recipe, arguments.seed, arguments.one)
    else:
        if arguments.bits:
            found = {"cpus": os.cpu_count(), "bits": bits(arguments.threads)}
        elif arguments.compare:
            found = compared(*map(read_scores, arguments.compare))
        else:
            found = across(arguments)
        print(json.dumps({"benchmark": "across_kernels", **found}))


if __name__ == "__main__":
    try:
        main(parser().parse_args())
    except GranvitError as error:
        sys.exit(f"error: {error}")
