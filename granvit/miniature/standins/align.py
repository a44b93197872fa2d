"""SAILViT's stand-in: AIMv2's objective first, then alignment with an LLM on instruction data (Yin et al.
2025).

The alignment answers questions about the same pictures through a projector and the LLM, all three learning.
Its probes are those of the others: it stops where they would leave the band.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins import encoders as standin_encoders
from granvit.miniature.standins.course import Course, descend
from granvit.miniature.standins.encoders import held_out, miss, normalise
from granvit.miniature.standins.objectives import WIDTH
from granvit.miniature.standins.probe import HELD_OUT, probe
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import token_losses
from granvit.models.packing import ChatFormat, pack
from granvit.models.projector import Projector
from granvit.progress import say

STEPS = 60
PROBE_EVERY = 15
BATCH = 32
LEARNING_RATE = 3e-4
QUESTIONS = 4  # an image and step


def align(
    tower: nn.Module,
    manifest: dict,
    pictures: standin_data.Pictures,
    seed: int,
    llm_dir: Path,
    device: torch.device | str = "cpu",
    log: Path | None = None,
) -> tuple[nn.Module, dict]:
    """Align an AIMv2 ``tower``, pretrained as ``manifest`` says, with the LLM in ``llm_dir``: the last state
    whose probes miss the band by no more than it does, and its manifest."""
    spec = SimpleNamespace(path=str(llm_dir))
    llm, chat = load_llm(spec, torch.float32), ChatFormat(load_tokenizer(spec))
    model = nn.ModuleList([tower, Projector(WIDTH, llm.config.hidden_size), llm]).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    count = len(pictures.full) - HELD_OUT
    known = held_out(pictures, "SAILViT", device)
    kept, allowed = _copy(tower), miss(manifest["probe"])
    rng, course = np.random.default_rng(seed), Course(STEPS, warmup=10)
    for step in course:
        indices = [standin_data.full_index(int(i)) for i in rng.choice(count // 2, size=BATCH, replace=False)]
        asked = [standin_data.some_questions(standin_data.make_truth(i), rng, QUESTIONS) for i in indices]
        packed = pack([[chat.segment(q, a) for q, a in pairs] for pairs in asked], chat, standin_data.GRID**2)
        pixels = normalise(pictures.pixels[indices], "SAILViT", device)
        features = model[1](tower(pixels, output_hidden_states=True).hidden_states[-2])
        loss = token_losses(llm, features, packed.to(torch.device(device))).mean()
        descend(loss, optimizer, LEARNING_RATE * course.rate)
        if (step + 1) % PROBE_EVERY == 0:
            scores = probe(tower, *known)
            said = " ".join(f"{group} {score:.2f}" for group, score in scores.items())
            say(log, f"stand-in SAILViT | aligned for {step + 1} steps | loss {loss.item():.3f} | {said}")
            if miss(scores) > allowed:
                break
            kept, aligned = _copy(tower), {"probe": scores, "aligned_images": (step + 1) * BATCH}
            manifest = manifest | aligned | {"alignment_loss": round(loss.item(), 4)}
    tower.load_state_dict(kept)
    return tower.eval(), manifest


def pretrain_sailvit(
    pictures: standin_data.Pictures,
    seed: int,
    llm_dir: Path,
    device: torch.device | str = "cpu",
    log: Path | None = None,
) -> tuple[nn.Module, dict]:
    """An AIMv2 tower, not the same as AIMv2's own, aligned with the LLM in ``llm_dir``, and what its manifest
    says."""
    tower, manifest = standin_encoders.pretrain("SAILViT", pictures, seed + 1, device, log)
    return align(tower, manifest, pictures, seed, llm_dir, device, log)


def _copy(tower: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in tower.state_dict().items()}
