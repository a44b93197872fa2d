"""How far a training is, in steps or in seconds of the clock, and the learning rate that belongs there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import nn


class Course:
    """A training of ``steps``, or of ``seconds`` on whatever machine: linear warm-up, then a cosine to zero.

    A course of seconds is not repeatable to the bit; it serves a machine that is lent for minutes.
    """

    def __init__(self, steps: int | None = None, seconds: float | None = None, warmup: int = 100) -> None:
        self.steps, self.seconds, self.warmup = steps, seconds, warmup
        self.step, self.began = 0, time.monotonic()

    def __iter__(self) -> Iterator[int]:
        """The numbers of the steps, until steps or seconds are over."""
        self.began = time.monotonic()
        while self.done < 1:
            yield self.step
            self.step += 1

    @property
    def done(self) -> float:
        """The share that is over, 0 to 1."""
        if self.seconds is None:
            return min(1.0, self.step / self.steps)
        return min(1.0, (time.monotonic() - self.began) / self.seconds)

    @property
    def rate(self) -> float:
        """The factor on the learning rate."""
        return min(1.0, (self.step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * self.done))


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One step down the gradient, clipped to norm 1, at a learning rate."""
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = rate
        nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
