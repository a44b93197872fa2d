"""The one training loop of all stages: steps, held-out evaluations, log rows, saved states, stopping and
exact resume, on any number of ranks."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from granvit.config.compute import RunCompute
from granvit.device import rng_state, set_rng_state
from granvit.errors import GranvitError
from granvit.models.mllm import MLLM
from granvit.progress import Progress
from granvit.training.batches import Batch, Batches, Feed
from granvit.training.checkpoint import States, StopRequest
from granvit.training.engine import Cluster, Engine
from granvit.training.heldout import HeldOut
from granvit.training.job import EXIT_SAVED, Job
from granvit.training.log import TrainingLog
from granvit.training.objective import IDLE, Objective, Totals
from granvit.training.optimizer import freeze_all_but, make_optimizer, rate_factor
from granvit.training.speed import compile_layers
from granvit.training.stages import learning_parts

LOG_ROWS = 100  # rows of training_log.csv, besides those with held-out metrics


class Trainer:
    """Model, teacher, optimizer and batches of one run: ``step(n)`` does training step n (from 0).

    Of the last step: ``skipped``, its unreadable images on all ranks, with causes; ``bad_batch``, what to say
    of a step that changed nothing.
    """

    def __init__(self, model: MLLM, recipe, batches: Batches, cluster: Cluster, compute: RunCompute) -> None:
        self.model, self.recipe, self.batches, self.cluster = model, recipe, batches, cluster
        features = batches.samples.features
        self.feed = Feed(batches, 0 if features else compute.data_workers)
        self.max_bad_steps, self.steps = compute.max_bad_steps, batches.order.steps
        learning = freeze_all_but(model, learning_parts(recipe))
        objective = Objective(model, recipe, features)
        self.teacher = objective.teacher
        teacher = self.teacher.encoder if self.teacher else None
        compile_layers(model, teacher, compute.compile, cluster.device)
        optimizer = make_optimizer(learning, recipe, cluster.device)
        parameters = [parameter for part in learning.values() for parameter in part]
        self.engine = Engine(cluster, objective, parameters, optimizer, recipe.max_grad_norm)
        self.bad_steps, self.bad_batch = 0, ""
        self.skipped: list[tuple[str, str]] = []

    def step(self, number: int) -> dict[str, float]:
        """One optimizer step; returns what to log, the same on every rank.

        A loss or gradient that is NaN or infinite changes nothing: ``loss`` is then NaN and ``bad_batch``
        names the images. Raises GranvitError after ``max_bad_steps`` such steps in a row.
        """
        batch = self.feed[number]
        totals, rounds = self._agree(batch)
        factor = rate_factor(number, self.steps, self.recipe.warmup_ratio)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        sums: dict[str, torch.Tensor] = {}
        for turn in range(rounds):
            idle = turn >= len(batch.micros)
            micro, weight = (self.batches.blank(), IDLE) if idle else (batch.micros[turn], totals)
            metrics = self.engine.accumulate(micro, weight, last=turn == rounds - 1)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0) + value.detach()
        norm = self.engine.step()
        if self.teacher and math.isfinite(norm):
            with self.engine.whole(self.teacher.pairs[1]):
                self.teacher.update()
        values = self.cluster.sum(torch.stack([value.float() for value in sums.values()])).tolist()
        metrics = {**dict(zip(sums, values, strict=True)), "grad_norm": norm}
        self._count_bad(metrics, number, batch)
        return metrics

    def rates(self) -> dict[str, float]:
        """The learning rate of each part in the last step, by its column of the log."""
        return {f"lr_{group['part']}": group["lr"] for group in self.engine.optimizer.param_groups}

    def _agree(self, batch: Batch) -> tuple[Totals, int]:
        """The step's totals over all ranks, and how many micro-batches every rank goes through."""
        counts = [micro.counts() for micro in batch.micros] or [(0, 0, 0)]
        local = [*(sum(column) for column in zip(*counts, strict=True)), len(batch.skipped)]
        *totals, skipped = self.cluster.sum(torch.tensor(local, device=self.cluster.device)).tolist()
        self.skipped = self.cluster.gather(batch.skipped) if skipped else []
        return Totals(*(max(total, 1) for total in totals)), max(self.cluster.max(len(batch.micros)), 1)

    def _count_bad(self, metrics: dict[str, float], number: int, batch: Batch) -> None:
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(metrics[name])]
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if not bad:
            return
        keys = self.cluster.gather(batch.keys)
        self.bad_batch = (
            f"{self.recipe.name}: {bad[0].replace('_', ' ')} is {metrics[bad[0]]} at step {number + 1}; this "
            f"step changed nothing. Images of the batch: {', '.join(keys)}"
        )
        if self.bad_steps >= self.max_bad_steps:
            raise GranvitError(
                f"{self.bad_batch}. {self.bad_steps} such steps in a row (compute.max_bad_steps): lower "
                f"learning_rate, or look at these images"
            )

    def state(self) -> tuple[dict, dict]:
        """All that a resumed run needs from here: what all ranks share, and this one's own part."""
        shared, own = self.engine.save()
        teacher = self.teacher.encoder.state_dict() if self.teacher else None
        return {**shared, "teacher": teacher, "bad_steps": self.bad_steps}, own

    def load(self, folder: Path, shared: dict) -> None:
        """Take over what ``state`` gave; all ranks' own parts are in ``folder``."""
        self.engine.load(folder, shared)
        if self.teacher:
            self.teacher.encoder.load_state_dict(shared["teacher"])
        self.bad_steps = shared["bad_steps"]


class Loop:
    """The steps of ``job`` that are left. ``log``: what they gave, and those of earlier attempts."""

    def __init__(self, job: Job, trainer: Trainer, heldout: HeldOut | None, states: States) -> None:
        self.job, self.trainer, self.heldout, self.states = job, trainer, heldout, states
        self.order, self.steps, self.log = trainer.batches.order, trainer.steps, TrainingLog()
        saved = states.load()
        if saved:
            folder, shared, own = saved
            trainer.load(folder, shared)
            self.log.load(shared)
            set_rng_state(trainer.cluster.device, own["rng"])

    def run(self) -> TrainingLog:
        """Train to the end, saving every ``save_every`` steps and before an exit on a signal.

        Raises GranvitError as ``Trainer.step`` does, and where more than ``compute.max_skipped_share`` of the
        images cannot be read; SystemExit with EXIT_SAVED once asked to stop.
        """
        recipe, cluster, log = self.job.recipe, self.trainer.cluster, self.log
        progress = Progress(
            self.steps, self.job.label, "images", self.job.log,
            per_step=recipe.batch_size, start=log.done, quiet=not cluster.is_main,
        )  # fmt: skip
        if not log.done and self.heldout:
            log.end_row(0, {}, self.heldout.evaluate())
        with StopRequest(self.job.stop_file, cluster) as stop:
            while log.done < self.steps:
                metrics = self.trainer.step(log.done)
                log.done += 1
                self._report(progress)
                self._account(metrics)
                progress.update(log.done, loss=metrics["loss"])
                asked = stop.requested()
                if asked or log.done % recipe.save_every == 0 or log.done == self.steps:
                    self.states.save(log.done, self._state)
                if asked:
                    progress.say(
                        f"{self.job.label} | stopped at step {log.done}, state saved; start it again to go on"
                    )
                    cluster.close()
                    raise SystemExit(EXIT_SAVED)
        return log

    def _report(self, progress: Progress) -> None:
        """Name the images that were skipped and a batch that changed nothing; stop where too many are
        skipped."""
        if self.trainer.bad_steps:
            progress.say(self.trainer.bad_batch)
        for key, cause in self.trainer.skipped:
            progress.say(f"{self.job.label} | image {key} skipped: {cause}")
            self.log.skipped[cause] += 1
        skipped, allowed = self.log.skipped.total(), self.job.compute.max_skipped_share
        if skipped > allowed * self.order.total:
            raise GranvitError(
                f"{self.job.recipe.name}: {skipped} images could not be read by step {self.log.done}, more "
                f"than compute.max_skipped_share ({allowed:g}) of the run's {self.order.total}; pack their "
                f"shards again (the log names each image)"
            )

    def _account(self, metrics: dict[str, float]) -> None:
        log, recipe = self.log, self.job.recipe
        if not self.trainer.bad_steps:
            log.add(metrics)
        last = log.done == self.steps
        evaluates = self.heldout and (last or log.done % recipe.eval_every == 0)
        if last or evaluates or log.done % max(1, self.steps // LOG_ROWS) == 0:
            images = min(log.done * recipe.batch_size, self.order.total)
            log.end_row(images, self.trainer.rates(), self.heldout.evaluate() if evaluates else {})

    def _state(self) -> tuple[dict, dict]:
        """Everything that decides what comes next: what all ranks share, and what is this rank's own."""
        shared, own = self.trainer.state()
        return {**shared, **self.log.state()}, {**own, "rng": rng_state(self.trainer.cluster.device)}
