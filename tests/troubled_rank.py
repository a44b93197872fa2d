"""What a launcher starts instead of `granvit.training.launch`: the same, but with trouble on one rank.

Without TROUBLE all is well. TROUBLE=die: rank ON_RANK is killed (SIGKILL) after the optimizer step AT;
TROUBLE=full: its disk is full when it saves the state after that step; TROUBLE=nan: its loss in that step is
NaN, and every rank writes its weights' hashes before and after that step to the file WITNESS.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import signal
import sys
from pathlib import Path

from granvit.training import checkpoint, launch
from granvit.training.loop import Trainer
from granvit.training.objective import Objective

TROUBLE = os.environ.get("TROUBLE", "")
AT, RANK = int(os.environ.get("AT", -1)), int(os.environ.get("ON_RANK", -1))
step, forward, save = Trainer.step, Objective.forward, checkpoint._save
now = -1


def digest(trainer: Trainer) -> str:
    """The student's and the teacher's weights of this rank as one hash."""
    state = hashlib.sha256()
    for module in (trainer.model, trainer.teacher.encoder):
        for parameter in module.parameters():
            state.update(parameter.detach().numpy().tobytes())
    return state.hexdigest()


def troubled_step(self: Trainer, number: int) -> dict[str, float]:
    global now
    now = number
    before = digest(self) if TROUBLE == "nan" else ""
    metrics = step(self, number)
    if TROUBLE == "nan" and number == AT:
        witness = Path(f"{os.environ['WITNESS']}.{self.cluster.rank}")
        witness.write_text(f"{before} {digest(self)}")
    if TROUBLE == "die" and number == AT and self.cluster.rank == RANK:
        os.kill(os.getpid(), signal.SIGKILL)
    return metrics


def troubled_forward(self: Objective, *arguments):
    loss, metrics = forward(self, *arguments)
    if TROUBLE == "nan" and now == AT and int(os.environ.get("RANK", 0)) == RANK:
        return loss * math.nan, {name: value * math.nan for name, value in metrics.items()}
    return loss, metrics


def troubled_save(write, path: Path) -> None:
    if TROUBLE == "full" and now == AT and path.name == f"rank{RANK}.pt":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save(write, path)


checkpoint._save = troubled_save
Trainer.step, Objective.forward = troubled_step, troubled_forward
sys.exit(launch.main([os.environ.get("JOB") or sys.argv[-1]]))
