"""What a launcher starts instead of `granvit.training.launch`: the same, but rank RANK_TO_DIE is killed
(SIGKILL) after the optimizer step DIE_AT."""

from __future__ import annotations

import os
import signal
import sys

from granvit.training import launch
from granvit.training.loop import Trainer

step = Trainer.step


def dying_step(self: Trainer, number: int) -> dict[str, float]:
    metrics = step(self, number)
    if number == int(os.environ["DIE_AT"]) and self.cluster.rank == int(os.environ.get("RANK_TO_DIE", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    return metrics


Trainer.step = dying_step
sys.exit(launch.main(sys.argv[1:]))
