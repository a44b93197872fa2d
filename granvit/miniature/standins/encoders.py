"""Stand-ins for the six published encoders: their architectures at width 128, pretrained by their namesakes'
objectives.

All see the same pictures for the same number of steps; they differ in architecture and objective only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    Aimv2VisionConfig,
    Aimv2VisionModel,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    InternVLVisionConfig,
    InternVLVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)  # fmt: skip

from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins.objectives import (
    HEADS,
    MAX_TEXT,
    PAD,
    WIDTH,
    Autoregression,
    Captioner,
    Contrastive,
    SelfDistillation,
)  # fmt: skip
from granvit.miniature.world.scenes import Scene
from granvit.progress import Progress

LAYERS = 4
PATCH = 16
POOL = 12_000  # pictures
BATCH = 64
STEPS = 700
LEARNING_RATE = 1e-3
WARMUP = 50
SIMPLE_PART = 0.35  # of the training shows single things only
SIGLIP_PATCH_GAIN = 5.0  # SigLIP has no norm after its patch embedding: pixels should outweigh places
DISTILL_FROM = 0.8  # SigLIP2 adds self-distillation for the last fifth of its training

_CLIP_NORM = dict(
    image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711]
)
_HALF_NORM = dict(image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
_IMAGENET_NORM = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
NORMS = {"CLIP": _CLIP_NORM, "SigLIP": _HALF_NORM, "SigLIP2": _HALF_NORM, "AIMv2": _CLIP_NORM, "SAILViT":
_CLIP_NORM,
         "InternViT": _IMAGENET_NORM}  # fmt: skip
_COMMON = dict(
    hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    image_size=standin_data.INPUT_SIZE, patch_size=PATCH,
)  # fmt: skip


def new_tower(name: str) -> nn.Module:
    """An untrained vision tower of ``name``'s own transformers class at miniature size."""
    match name:
        case "CLIP":
            return CLIPVisionModel(CLIPVisionConfig(**_COMMON, intermediate_size=4 * WIDTH))
        case "SigLIP" | "SigLIP2":
            tower = SiglipVisionModel(SiglipVisionConfig(**_COMMON, intermediate_size=4 * WIDTH))
            with torch.no_grad():
                tower.embeddings.patch_embedding.weight.mul_(SIGLIP_PATCH_GAIN)
            return tower
        case "AIMv2" | "SAILViT":
            return Aimv2VisionModel(Aimv2VisionConfig(**_COMMON, intermediate_size=3 * WIDTH, use_head=False))
        case "InternViT":
            return InternVLVisionModel(InternVLVisionConfig(**_COMMON, intermediate_size=4 * WIDTH))
    raise ValueError(f"encoder: {name!r} has no stand-in; known are {', '.join(sorted(NORMS))}")


def processor(name: str) -> CLIPImageProcessorPil:
    """The image processor that ships with the stand-in: 128 px, the namesake's normalisation."""
    size = {"height": standin_data.INPUT_SIZE, "width": standin_data.INPUT_SIZE}
    return CLIPImageProcessorPil(size=size, do_center_crop=False, **NORMS[name])


def normalise(pixels: np.ndarray, name: str) -> torch.Tensor:
    """uint8 (B, 3, H, W) as the encoder ``name`` wants them: float, with its own mean and deviation."""
    mean, std = (torch.tensor(NORMS[name][key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    return (torch.from_numpy(pixels).float() / 255 - mean) / std


class Captions:
    """Captions of the pool as word ids. BOS = 1, EOS = 2, PAD = 0; words from the closed vocabulary."""

    def __init__(self, count: int) -> None:
        truths = [standin_data.make_truth(index) for index in range(count)]
        self.full = [truth.caption() for truth in truths]
        self.parts = [_parts(truth) for truth in truths]
        words = sorted({word for text in self.full for word in _split(text)})
        self.vocabulary = {word: number for number, word in enumerate(words, 3)}
        self.size = len(self.vocabulary) + 3

    def encode(self, texts: list[str]) -> torch.Tensor:
        """(B, L) ids with BOS and EOS, padded on the right."""
        rows = [[1, *(self.vocabulary[word] for word in _split(text)), 2][:MAX_TEXT] for text in texts]
        length = max(map(len, rows))
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])


def _split(text: str) -> list[str]:
    return text.replace(",", " ,").replace(".", " .").split()


def _parts(truth) -> list[str]:
    """Captions of one thing: web captions name what matters, not everything, and only they make a batch
    hard."""
    if isinstance(truth, Scene):
        return [f"{thing.caption()} at the {thing.place}" for thing in truth.objects]
    return [text for text, _ in standin_data.printed(truth) if not text.isdigit()]


class Objective(nn.Module):
    """The loss of ``name``: which of the objectives, on which output of its tower."""

    def __init__(self, name: str, tower: nn.Module, vocabulary: int) -> None:
        super().__init__()
        self.name, self.tower = name, tower
        if name in ("CLIP", "SigLIP", "SigLIP2", "InternViT"):
            self.contrastive = Contrastive(vocabulary, sigmoid=name.startswith("SigLIP"))
        if name in ("SigLIP2", "InternViT"):
            self.captioner = Captioner(vocabulary)
        if name == "SigLIP2":
            self.distillation = SelfDistillation()
        if name in ("AIMv2", "SAILViT"):
            self.autoregression = Autoregression(vocabulary, 3 * PATCH * PATCH)

    def forward(
        self, pixels: torch.Tensor, full: torch.Tensor, part: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """``pixels`` (B, 3, H, W) normalised; ``full``/``part`` (B, L): ids of the whole caption and of one
        thing in it."""
        if self.name in ("AIMv2", "SAILViT"):
            return self._autoregressive(pixels, full, generator)
        output = self.tower(pixels)
        patches = output.last_hidden_state
        if self.name == "InternViT":
            patches = patches[:, 1:]
            pooled = patches.mean(1)
        else:
            pooled = output.pooler_output
        loss = self.contrastive(pooled, part)
        if self.name in ("SigLIP2", "InternViT"):
            loss = loss + self.captioner(patches, full)
        if self._distils():
            loss = loss + self.distillation(self.tower, pixels, generator)
        return loss

    def _autoregressive(
        self, pixels: torch.Tensor, full: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        grid = pixels.shape[-1] // PATCH
        prefix = int(torch.randint(1, grid * grid, (), generator=generator))
        allowed = ~torch.ones(grid * grid, grid * grid, dtype=torch.bool).triu(1)
        allowed[:, :prefix] = True
        patches = self.tower(pixels, attention_mask=allowed[None, None]).last_hidden_state
        target = nn.functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)
        return self.autoregression(patches, target, prefix, full)

    def _distils(self) -> bool:
        return self.name == "SigLIP2" and self.distillation.teacher is not None

    def after_step(self, done: float) -> None:
        """What follows an optimizer step, ``done`` of the training being over: SigLIP2's teacher."""
        if self._distils():
            self.distillation.follow(self.tower)
        elif self.name == "SigLIP2" and done >= DISTILL_FROM:
            self.distillation.begin(self.tower)


def schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero: the factor on the learning rate."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.5 * (1 + np.cos(np.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def pretrain(
    name: str, pool_path: Path, seed: int, steps: int, log: Path | None = None
) -> tuple[nn.Module, dict]:
    """Train a tower of ``name`` for ``steps`` on the pool; returns it with what its manifest says."""
    torch.manual_seed(seed)
    pool, captions = standin_data.image_pool(pool_path, POOL), Captions(POOL)
    tower = new_tower(name)
    objective = Objective(name, tower, captions.size)
    optimizer = torch.optim.AdamW(objective.parameters(), weight_decay=0.05, betas=(0.9, 0.98))
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    progress, recent = Progress(steps, f"stand-in {name}", "images", log, per_step=BATCH), {}
    for step in range(steps):
        # A batch of one level: its pictures are told apart by what they show, not by their kind.
        level = step % (2 if step < SIMPLE_PART * steps else 4)
        chosen = rng.choice(np.arange(level, POOL, 4), size=BATCH, replace=False)
        pixels = normalise(pool[chosen], name)
        full = captions.encode([captions.full[i] for i in chosen])
        part = captions.encode([str(rng.choice(captions.parts[i])) for i in chosen])
        loss = objective(pixels, full, part, generator)
        standin_data.descend(loss, optimizer, LEARNING_RATE * schedule(step, steps))
        objective.after_step((step + 1) / steps)
        recent[standin_data.LEVELS[level]] = loss.item()
        progress.update(step + 1, **recent)
    manifest = {"encoder": name, "objective": name, "images": steps * BATCH, "pool": POOL}
    manifest |= {"seed": seed, "final_loss": round(loss.item(), 4)}
    return tower.eval(), manifest
