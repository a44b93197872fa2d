"""Stand-ins for the six published encoders: their architectures at width 128, pretrained by their namesakes'
objectives.

All see the same pictures, first coarse ones, then whole ones until the same probes are reached (`BAND`); they
differ in architecture and objective only. The paper's premise is an encoder that knows an image globally and
its parts badly, so a stand-in must know where a patch is, and only half of what is on it.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
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
from transformers.utils import ModelOutput

from granvit.miniature.standins import data as standin_data
from granvit.miniature.standins.course import descend
from granvit.miniature.standins.objectives import (
    HEADS,
    MAX_TEXT,
    PAD,
    WIDTH,
    Autoregression,
    Captioner,
    Contrastive,
    Places,
    SelfDistillation,
)  # fmt: skip
from granvit.miniature.standins.probe import HELD_OUT, probe
from granvit.progress import say

LAYERS = 4
PATCH = 16
POOL = 12_000  # pictures
BATCH = 64
LEARNING_RATE = 1e-3
WARMUP = 50
LOCAL = ["shape", "word"]  # what a stand-in knows of its patches by halves
BAND = (
    0.52,
    0.63,
)  # their linear probes when it is accepted; inside .5 to .65, which the rounding may not leave
PLACES_KNOWN = 0.92  # at least, of row and column
PLACE_WEIGHT = 0.5  # of the patches' places in every objective
PLACE_STD = 0.4  # of the position embeddings at the start, in all six
# Random patch embeddings already let a linear probe read three words in four. So they begin blind to what is
# finer than an eighth of the resolution, as their pictures are at first; both together stay so to the bit.
COARSE = 8
COARSE_STEPS = 200
PROBE_EVERY = 25  # steps on whole pictures
MOST_STEPS = 1500
DISTILL_FROM = 0.9  # SigLIP2 adds self-distillation on the last part of the way

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
            tower = CLIPVisionModel(CLIPVisionConfig(**_COMMON, intermediate_size=4 * WIDTH))
        case "SigLIP" | "SigLIP2":
            tower = SiglipVisionModel(SiglipVisionConfig(**_COMMON, intermediate_size=4 * WIDTH))
        case "AIMv2" | "SAILViT":
            tower = Aimv2VisionModel(
                Aimv2VisionConfig(**_COMMON, intermediate_size=3 * WIDTH, use_head=False)
            )
        case "InternViT":
            config = dict(intermediate_size=4 * WIDTH, use_absolute_position_embeddings=True)
            tower = InternVLVisionModel(InternVLVisionConfig(**_COMMON, **config))
        case _:
            raise ValueError(f"encoder: {name!r} has no stand-in; known are {', '.join(sorted(NORMS))}")
    with torch.no_grad():
        for key, parameter in tower.named_parameters():
            if "position_embedding" in key:
                parameter.normal_(0, PLACE_STD)
            elif parameter.dim() == 4:  # the patch embedding
                parameter.copy_(coarse(parameter))
    return tower


def coarse(pixels: torch.Tensor) -> torch.Tensor:
    """(..., H, W) with each block of `COARSE` x `COARSE` values replaced by its mean."""
    return F.interpolate(F.avg_pool2d(pixels, COARSE), scale_factor=COARSE)


def processor(name: str) -> CLIPImageProcessorPil:
    """The image processor that ships with the stand-in: 128 px, the namesake's normalisation."""
    size = {"height": standin_data.INPUT_SIZE, "width": standin_data.INPUT_SIZE}
    return CLIPImageProcessorPil(size=size, do_center_crop=False, **NORMS[name])


def normalise(pixels: np.ndarray, name: str, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 (B, 3, H, W) as the encoder ``name`` wants them: float, with its own mean and deviation, on a
    device."""
    pixels = torch.from_numpy(pixels).to(device).float() / 255
    mean, std = (pixels.new_tensor(NORMS[name][key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    return (pixels - mean) / std


class Captions:
    """Captions as word ids. BOS = 1, EOS = 2, PAD = 0; words from the closed vocabulary of ``texts``."""

    def __init__(self, texts: list[str]) -> None:
        words = sorted({word for text in texts for word in _split(text)})
        self.vocabulary = {word: number for number, word in enumerate(words, 3)}
        self.size = len(self.vocabulary) + 3

    def encode(self, texts: list[str]) -> torch.Tensor:
        """(B, L) ids with BOS and EOS, padded on the right."""
        rows = [[1, *(self.vocabulary[word] for word in _split(text)), 2][:MAX_TEXT] for text in texts]
        length = max(map(len, rows))
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])


def _split(text: str) -> list[str]:
    return text.replace(",", " ,").replace(".", " .").split()


class Objective(nn.Module):
    """The loss of ``name``: which of the objectives, on which output of its tower; for all, the patches'
    places."""

    def __init__(self, name: str, tower: nn.Module, vocabulary: int) -> None:
        super().__init__()
        self.name, self.tower = name, tower
        self.places = Places(standin_data.GRID)
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
        count = (pixels.shape[-1] // PATCH) ** 2
        if self.name in ("AIMv2", "SAILViT"):
            loss, output = self._autoregressive(pixels, full, count, generator)
        else:
            output = self.tower(pixels, output_hidden_states=True)
            patches = output.last_hidden_state[:, -count:]
            pooled = patches.mean(1) if self.name == "InternViT" else output.pooler_output
            loss = self.contrastive(pooled, part)
            if self.name in ("SigLIP2", "InternViT"):
                loss = loss + self.captioner(patches, full)
            if self._distils():
                loss = loss + self.distillation(self.tower, pixels, generator)
        return loss + PLACE_WEIGHT * self.places(output.hidden_states[-2][:, -count:])

    def _autoregressive(
        self, pixels: torch.Tensor, full: torch.Tensor, count: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, ModelOutput]:
        prefix = int(torch.randint(1, count, (), generator=generator))
        allowed = ~torch.ones(count, count, dtype=torch.bool, device=pixels.device).triu(1)
        allowed[:, :prefix] = True
        output = self.tower(pixels, attention_mask=allowed[None, None], output_hidden_states=True)
        target = nn.functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)
        return self.autoregression(output.last_hidden_state, target, prefix, full), output

    def _distils(self) -> bool:
        return self.name == "SigLIP2" and self.distillation.teacher is not None

    def after_step(self, done: float) -> None:
        """What follows an optimizer step, ``done`` of the training being over: SigLIP2's teacher."""
        if self._distils():
            self.distillation.follow(self.tower)
        elif self.name == "SigLIP2" and done >= DISTILL_FROM:
            self.distillation.begin(self.tower)


class Schooling:
    """The training of one stand-in, from probe to probe: what is ahead of the band's lower edge waits until
    the other has come up."""

    def __init__(self, name: str, pictures: standin_data.Pictures, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.name, self.pictures, self.device = name, pictures, device
        self.captions = Captions(pictures.full)
        self.objective = Objective(name, new_tower(name), self.captions.size).to(device).train()
        self.tower = self.objective.tower
        self.optimizer = torch.optim.AdamW(self.objective.parameters(), weight_decay=0.05, betas=(0.9, 0.98))
        self.generator, self.rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        self.count = len(pictures.full) - HELD_OUT  # those to train on
        self.held_out = held_out(pictures, name, device)
        self.step, self.loss = 0, float("nan")
        self.scores, self.best_scores, self.best = dict.fromkeys(LOCAL, 0.0), {}, None

    def look(self) -> None:
        """Probe the tower as it is, and keep it if no earlier one was nearer to the band."""
        self.scores = probe(self.tower, *self.held_out)
        if self.best is None or miss(self.scores) < miss(self.best_scores):
            self.best_scores, self.best = self.scores, copy.deepcopy(self.tower.state_dict())

    @property
    def progress(self) -> float:
        """How near the band is, 0 to 1, for what is further from it."""
        return min(1.0, *(self.scores[group] / BAND[0] for group in LOCAL))

    def levels(self) -> list[int]:
        """Which of ``data.LEVELS`` the next steps show."""
        names = {"shape": ["object", "scene"], "word": ["word", "document"]}
        behind = [group for group in LOCAL if self.scores[group] < BAND[0]] or LOCAL
        return [standin_data.LEVELS.index(name) for group in behind for name in names[group]]

    def train(self, steps: int) -> None:
        """``steps`` steps, each on a batch of one level: its pictures are told apart by what they show, not
        by their kind."""
        levels = self.levels()
        for _ in range(steps):
            level = levels[self.step % len(levels)]
            chosen = self.rng.choice(np.arange(level, self.count, 4), size=BATCH, replace=False)
            pixels = normalise(self.pictures.pixels[chosen], self.name, self.device)
            pixels = coarse(pixels) if self.step < COARSE_STEPS else pixels
            full = self.captions.encode([self.pictures.full[i] for i in chosen]).to(self.device)
            part = self.captions.encode([str(self.rng.choice(self.pictures.parts[i])) for i in chosen])
            loss = self.objective(pixels, full, part.to(self.device), self.generator)
            descend(loss, self.optimizer, LEARNING_RATE * min(1.0, (self.step + 1) / WARMUP))
            self.objective.after_step(self.progress)
            self.step, self.loss = self.step + 1, loss.detach()


def held_out(
    pictures: standin_data.Pictures, name: str, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pictures and labels that ``probe`` takes."""
    pixels = normalise(pictures.pixels[-HELD_OUT:], name, device)
    return pixels, torch.from_numpy(pictures.labels[-HELD_OUT:]).to(device)


def miss(scores: dict[str, float]) -> float:
    """By how much probes miss what a stand-in is accepted for; 0 where they do not."""
    low, high = BAND
    local = sum(max(0.0, low - scores[group], scores[group] - high) for group in LOCAL)
    return local + sum(max(0.0, PLACES_KNOWN - scores[place]) for place in ("row", "column"))


def pretrain(
    name: str,
    pictures: standin_data.Pictures,
    seed: int,
    device: torch.device | str = "cpu",
    log: Path | None = None,
    seconds: float = math.inf,
) -> tuple[nn.Module, dict]:
    """Train a tower of ``name`` on all but the last `HELD_OUT` pictures until its probes are in the band, at
    most for `MOST_STEPS` and ``seconds``; the nearest one is returned, with what its manifest says."""
    schooling = Schooling(name, pictures, seed, torch.device(device))
    began, steps = time.monotonic(), COARSE_STEPS
    while schooling.step < MOST_STEPS and time.monotonic() - began < seconds:
        schooling.train(steps)
        schooling.look()
        steps, speed = PROBE_EVERY, schooling.step / (time.monotonic() - began)
        said = " ".join(f"{group} {score:.2f}" for group, score in schooling.scores.items())
        line = f"step {schooling.step} | loss {schooling.loss:.3f} | {said} | {speed:.1f} steps/s"
        say(log, f"stand-in {name} | {line}")
        if not miss(schooling.scores) or min(schooling.scores[group] for group in LOCAL) > BAND[1]:
            break
    tower = schooling.tower
    tower.load_state_dict(schooling.best)
    manifest = {"encoder": name, "objective": name, "steps": schooling.step, "seed": seed}
    manifest |= {"images": schooling.step * BATCH, "pool": schooling.count, "probe": schooling.best_scores}
    return tower.eval(), manifest
