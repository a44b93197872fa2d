"""One training run as one typed object, from the workflow script to the last rank. Needs no torch."""

from __future__ import annotations

import signal
from pathlib import Path

from granvit.config.base import Strict
from granvit.config.compute import RunCompute
from granvit.config.recipes import Recipe
from granvit.config.schema import EncoderSpec, LLMSpec

EXIT_SAVED = 85  # a run that was asked to stop saved its state; start it again to go on
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # ask a run to save its state and exit


class Job(Strict):
    """What a run learns, from which files, into which folder, and how it is laid out; a JSON file can hold
    it.

    ``encoder``, ``llm``: the published models (config/encoders.yaml, llms.yaml) that a run without parent
    starts from. ``parent_dir``: run folder of the recipe's parent. ``encoder_dir``: run folder whose encoder
    replaces the one above (Table 2: an encoder that was pretrained with another LLM). ``matched``: the
    mixture of the recipe's ``tokens_of``, whose supervised tokens decide how long the run is. ``state_dir``:
    where the resumable state lives; it stays until somebody uses the run (``granvit.finished``). ``log``: a
    file that progress is written to.
    """

    recipe: Recipe
    seed: int
    encoder: EncoderSpec
    llm: LLMSpec
    mixture: Path
    heldout: Path | None = None
    matched: Path | None = None
    parent_dir: Path | None = None
    encoder_dir: Path | None = None
    out_dir: Path
    state_dir: Path
    device: str = "auto"
    log: Path | None = None
    compute: RunCompute = RunCompute()

    @property
    def label(self) -> str:
        """How messages call this run."""
        return f"{self.recipe.name} seed{self.seed}"

    @property
    def stop_file(self) -> Path:
        """Whoever writes this file asks the run to save and exit: a signal may not reach every rank."""
        return self.state_dir / "stop"

    @property
    def manifest(self) -> Path:
        """Written last: a run that has it is finished."""
        return self.out_dir / "manifest.json"
