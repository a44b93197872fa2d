"""SAILViT's stand-in: AIMv2's objective first, then alignment with an LLM on instruction data (Yin et al.
2025).

Two thirds of the common number of steps go to AIMv2's objective, the last third to answering questions about
the same pictures through a projector and the LLM, all three learning.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins import encoders as standin_encoders
from granvit.miniature.standins.objectives import WIDTH
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import token_losses
from granvit.models.packing import ChatFormat, pack
from granvit.models.projector import Projector
from granvit.progress import Progress

ALIGNED_PART = 1 / 3
LEARNING_RATE = 1e-3
QUESTIONS = 4  # an image and step


def pretrain_sailvit(
    pool_path: Path, seed: int, llm_dir: Path, log: Path | None = None
) -> tuple[nn.Module, dict]:
    """An AIMv2 tower aligned with the LLM in ``llm_dir``, and what its manifest says."""
    steps = int(standin_encoders.STEPS * ALIGNED_PART)
    tower, manifest = standin_encoders.pretrain(
        "SAILViT", pool_path, seed, standin_encoders.STEPS - steps, log
    )
    spec = SimpleNamespace(path=str(llm_dir))
    llm, chat = load_llm(spec, torch.float32), ChatFormat(load_tokenizer(spec))
    projector = Projector(WIDTH, llm.config.hidden_size)
    pool = standin_data.image_pool(pool_path, standin_encoders.POOL)
    model = nn.ModuleList([tower.train(), projector, llm.train()])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    rng, label = np.random.default_rng(seed), "stand-in SAILViT, alignment"
    progress = Progress(steps, label, "images", log, per_step=standin_encoders.BATCH)
    for step in range(steps):
        numbers = rng.choice(standin_encoders.POOL // 2, size=standin_encoders.BATCH, replace=False)
        chosen = [standin_data.full_index(int(number)) for number in numbers]
        pixels = standin_encoders.normalise(pool[chosen], "SAILViT")
        asked = [standin_data.some_questions(standin_data.make_truth(i), rng, QUESTIONS) for i in chosen]
        packed = pack([[chat.segment(q, a) for q, a in pairs] for pairs in asked], chat, standin_data.GRID**2)
        features = projector(tower(pixels, output_hidden_states=True).hidden_states[-2])
        loss = token_losses(llm, features, packed).mean()
        standin_data.descend(loss, optimizer, LEARNING_RATE * standin_encoders.schedule(step, steps))
        progress.update(step + 1, loss=loss.item())
    manifest |= {
        "images": standin_encoders.STEPS * standin_encoders.BATCH,
        "alignment_loss": round(loss.item(), 4),
    }
    return tower.eval(), manifest
