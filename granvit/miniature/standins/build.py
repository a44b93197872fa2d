"""Builds the stand-ins for the published checkpoints (``snakemake standins``); `python -m
granvit.miniature.standins.build` does one.

Encoders go to ``{out}/encoders/{name}``, LLMs to ``{out}/llms/{name}``, all in Hugging Face layout with a
``manifest.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from granvit.miniature.standins import SMALLEST_LLM, told
from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins import encoders as standin_encoders
from granvit.miniature.standins import llms as standin_llms
from granvit.miniature.standins.align import pretrain_sailvit
from granvit.miniature.standins.course import Course, best_device
from granvit.miniature.standins.scores import symbol_scores
from granvit.miniature.standins.tokenizer import build_tokenizer

ENCODERS = tuple(standin_encoders.NORMS)
LLMS = tuple(standin_llms.SHAPES)


def build_encoder(
    name: str,
    out_dir: Path,
    seed: int,
    pool: Path,
    llm_dir: Path | None = None,
    log: Path | None = None,
) -> None:
    """Pretrain the stand-in of encoder ``name`` into ``out_dir``. ``pool``: the pictures
    (`data.draw_pictures`); ``llm_dir``: the LLM that SAILViT is aligned with (a stand-in folder), unused by
    the others."""
    pictures, device = standin_data.load_pictures(pool), best_device()
    if name == "SAILViT":
        tower, manifest = pretrain_sailvit(pictures, seed, llm_dir, device, log)
    else:
        tower, manifest = standin_encoders.pretrain(name, pictures, seed, device, log)
    standin_data.save(Path(out_dir), manifest, tower, standin_encoders.processor(name))


def build_llm(
    name: str, out_dir: Path, seed: int, start: Path | None = None, log: Path | None = None
) -> None:
    """Pretrain the stand-in of LLM ``name`` into ``out_dir``, with its tokenizer and its symbol scores.
    ``start``: the folder of the smallest stand-in, from which the larger ones grow."""
    steps = standin_llms.GROWN_STEPS if start else standin_llms.STEPS
    course, device = Course(steps, warmup=standin_llms.WARMUP), best_device()
    feed = told.Feed(standin_llms.SHAPES[name][0], seed, min(standin_llms.STORE, steps * standin_llms.BATCH))
    llm, tokenizer, manifest = standin_llms.pretrain(name, seed, feed, course, start, log, device)
    manifest["symbols"] = symbol_scores(rounded(llm), tokenizer)
    standin_data.save(Path(out_dir), manifest, llm, tokenizer)


def rounded(llm: nn.Module) -> nn.Module:
    """The model with its weights rounded as they are saved, in fp32."""
    return llm.to(torch.bfloat16).float()


def write_untrained(out_dir: Path) -> None:
    """All stand-ins with random weights: the layout without the knowledge, to try the graph's plumbing."""
    torch.manual_seed(0)
    for name in ENCODERS:
        tower, processor = standin_encoders.new_tower(name), standin_encoders.processor(name)
        standin_data.save(out_dir / "encoders" / name, {"encoder": name, "images": 0}, tower, processor)
    for name, (family, *_) in standin_llms.SHAPES.items():
        tokenizer = build_tokenizer(family)
        llm = standin_llms.new_llm(name, tokenizer)
        standin_data.save(out_dir / "llms" / name, {"llm": name, "images": 0}, llm, tokenizer)


def main() -> None:
    """Command line: one stand-in, or with ``--untrained`` all of them without training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder that gets encoders/ and llms/")
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--encoder", choices=ENCODERS)
    choice.add_argument("--llm", choices=LLMS)
    choice.add_argument("--untrained", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out, smallest = arguments.out, arguments.out / "llms" / SMALLEST_LLM
    if arguments.untrained:
        write_untrained(out)
    elif name := arguments.llm:
        build_llm(name, out / "llms" / name, arguments.seed, None if name == SMALLEST_LLM else smallest)
    else:
        name, pool = arguments.encoder, out / "pool.npz"
        if not pool.exists():
            standin_data.draw_pictures(pool, standin_encoders.POOL)
        build_encoder(name, out / "encoders" / name, arguments.seed, pool, smallest)


if __name__ == "__main__":
    main()
