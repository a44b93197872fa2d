"""The course of one run: steps, held-out evaluations, log rows, saved states, stopping and going on."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path

from granvit.device import rng_state, set_rng_state
from granvit.errors import GranvitError
from granvit.progress import Progress
from granvit.training.checkpoint import States
from granvit.training.engine import Cluster
from granvit.training.heldout import HeldOut
from granvit.training.loop import Trainer

EXIT_SAVED = 85  # a run that was asked to stop saved its state; start it again to go on
LOG_ROWS = 100  # rows of training_log.csv, besides those with held-out metrics
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Course:
    """Does the steps that are left and keeps account of them; ``rows`` are those of training_log.csv."""

    def __init__(
        self,
        recipe,
        seed: int,
        trainer: Trainer,
        heldout: HeldOut | None,
        states: States,
        max_skipped_share: float,
        log: Path | None,
    ) -> None:
        self.recipe, self.trainer, self.heldout, self.states = recipe, trainer, heldout, states
        self.cluster, self.max_skipped_share, self.log = trainer.cluster, max_skipped_share, log
        self.label = f"{recipe.name} seed{seed}"
        self.steps, self.order = trainer.steps, trainer.batches.order
        self.log_every = max(1, self.steps // LOG_ROWS)
        self.done, self.rows, self.seconds = 0, [], 0.0
        self.sums: dict[str, float] = {}
        self.since = 0  # steps that the sums are over
        self.skipped: Counter[str] = Counter()  # images that could not be read, by cause
        self.began = time.monotonic()
        self._load()

    def train(self) -> None:
        """Do the steps that are left, saving every ``save_every`` steps and before an exit on a signal."""
        progress = Progress(
            self.steps, self.label, "images", self.log,
            per_step=self.recipe.batch_size, start=self.done, quiet=not self.cluster.is_main,
        )  # fmt: skip
        self.began = time.monotonic()
        if not self.done and self.heldout:
            self._log_row(self.heldout.evaluate())
        with StopRequest(self.states.stop_file, self.cluster) as stop:
            while self.done < self.steps:
                metrics = self.trainer.step(self.done)
                self.done += 1
                self._report(progress)
                self._account(metrics)
                progress.update(self.done, loss=metrics["loss"])
                asked = stop.requested()
                if asked or self.done % self.recipe.save_every == 0 or self.done == self.steps:
                    self.states.save(self.done, self._state)
                if asked:
                    progress.say(
                        f"{self.label} | stopped at step {self.done}, state saved; start it again to go on"
                    )
                    self.cluster.close()
                    raise SystemExit(EXIT_SAVED)

    def summary(self) -> dict:
        """What the manifest says of the course: metrics of the last row, images skipped by cause."""
        last = {name: value for name, value in self.rows[-1].items() if not name.startswith("lr_")}
        return {"metrics": last, "skipped": dict(sorted(self.skipped.items()))}

    def timing(self) -> dict[str, float]:
        """Seconds of training over all attempts, and images a second."""
        seconds = self.seconds + time.monotonic() - self.began
        return {
            "seconds": round(seconds, 3),
            "images_per_second": round(self.rows[-1]["images"] / max(seconds, 1e-9), 2),
        }

    def _report(self, progress: Progress) -> None:
        """Name the images that were skipped and a batch that changed nothing; stop where too many are
        skipped."""
        if self.trainer.bad_steps:
            progress.say(self.trainer.bad_batch)
        for key, cause in self.trainer.skipped:
            progress.say(f"{self.label} | image {key} skipped: {cause}")
            self.skipped[cause] += 1
        skipped = self.skipped.total()
        if skipped > self.max_skipped_share * self.order.total:
            raise GranvitError(
                f"{self.recipe.name}: {skipped} images could not be read by step {self.done}, more than "
                f"compute.max_skipped_share ({self.max_skipped_share:g}) of the run's {self.order.total}; "
                f"pack their shards again (the log names each image)"
            )

    def _account(self, metrics: dict[str, float]) -> None:
        if not self.trainer.bad_steps:
            for name, value in metrics.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.since += 1
        last = self.done == self.steps
        evaluates = self.heldout and (last or self.done % self.recipe.eval_every == 0)
        if last or evaluates or self.done % self.log_every == 0:
            self._log_row(self.heldout.evaluate() if evaluates else {})

    def _log_row(self, heldout: dict[str, float]) -> None:
        """A row with the means since the row before; the first row, before any step, has held-out metrics
        only."""
        means = {name: value / self.since for name, value in self.sums.items()}
        images = min(self.done * self.recipe.batch_size, self.order.total)
        row = {"step": self.done, "images": images, **means, **heldout}
        if self.done:
            groups = self.trainer.engine.optimizer.param_groups
            row |= {f"lr_{group['part']}": group["lr"] for group in groups}
        self.rows.append(row)
        self.sums, self.since = {}, 0

    def _state(self, folder: Path) -> tuple[dict, dict]:
        """Everything that decides what comes next: what all ranks share, and what is this rank's own."""
        shared = {
            **self.trainer.state(folder),
            "done": self.done, "rows": self.rows, "sums": self.sums, "since": self.since,
            "skipped": dict(self.skipped), "seconds": self.seconds + time.monotonic() - self.began,
        }  # fmt: skip
        return shared, {"rng": rng_state(self.cluster.device)}

    def _load(self) -> None:
        saved = self.states.load()
        if not saved:
            return
        folder, shared, own = saved
        self.trainer.load(folder, shared)
        self.done, self.rows, self.sums = shared["done"], shared["rows"], shared["sums"]
        self.since, self.seconds, self.skipped = (
            shared["since"],
            shared["seconds"],
            Counter(shared["skipped"]),
        )
        set_rng_state(self.cluster.device, own["rng"])


class StopRequest:
    """Whether to save and exit, asked between steps: after SIGTERM, SIGUSR1 or SIGUSR2 to any rank
    (schedulers warn before they kill), or once the state's stop file is there."""

    def __init__(self, file: Path, cluster: Cluster) -> None:
        self.file, self.cluster, self.signalled = file, cluster, False

    def __enter__(self) -> StopRequest:
        if self.cluster.is_main:
            self.file.unlink(missing_ok=True)
        self.previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def requested(self) -> bool:
        """The same answer on every rank."""
        asked = self.signalled or (self.cluster.is_main and self.file.exists())
        return bool(self.cluster.max(int(asked)))

    def _note(self, *_: object) -> None:
        self.signalled = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
