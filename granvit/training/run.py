"""One training run from its recipe to its folder: assemble, train or resume, measure, and write
everything last."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

from granvit.device import pick_device, seed_everything
from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder, load_saved_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, feature_width
from granvit.models.projector import Projector, load_projector
from granvit.progress import Progress
from granvit.training.batches import Batches, Examples, Mixture, Order
from granvit.training.checkpoint import load_state, save_state
from granvit.training.heldout import HeldOut
from granvit.training.images import FeatureStore, ImageStore
from granvit.training.loop import Trainer, freeze_all_but, keep_encoding
from granvit.training.outputs import LOG_COLUMNS, hash_inputs, make_manifest, write_outputs
from granvit.training.stages import STAGES, learning_parts

EXIT_SAVED = 85  # a run that was asked to stop saved its state; start it again to go on
LOG_ROWS = 100  # rows of training_log.csv, besides those with held-out metrics
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def train(
    recipe,
    seed: int,
    encoder,
    llm,
    parent_dir: Path | None,
    encoder_dir: Path | None,
    mixture: Path,
    heldout: Path | None,
    out_dir: Path,
    state_dir: Path,
    device: str = "auto",
    log: Path | None = None,
) -> None:
    """Train ``recipe`` and write manifest.json, timing.json, training_log.csv and model/ into ``out_dir``.

    ``encoder``, ``llm``: specs (config/encoders.yaml, llms.yaml) that a run without parent starts from;
    ``parent_dir``: run folder of the recipe's parent; ``encoder_dir``: run folder whose encoder replaces
    the one above;
    ``state_dir``: where the resumable state lives, removed at the end. On SIGTERM or SIGUSR1 the state is
    saved and the process exits with code 85 (EXIT_SAVED). Raises GranvitError on anything that does not
    fit together.
    """
    parts = learning_parts(recipe)
    chosen = pick_device(device)
    seed_everything(seed)
    inputs = hash_inputs(encoder, llm, parent_dir, encoder_dir, mixture, heldout)
    model = assemble(recipe, encoder, llm, parent_dir, encoder_dir).to(chosen)
    run = Run(recipe, seed, model, parts, Path(mixture), heldout, chosen, log)
    fingerprint = {"recipe_hash": recipe.hash, "seed": seed, "inputs": inputs}
    saved = load_state(state_dir, fingerprint)
    if saved:
        run.load(saved)
    run.train(lambda: save_state(state_dir, fingerprint, run.state()))
    manifest = make_manifest(recipe, seed, inputs, model, parts, chosen, run.final_metrics())
    write_outputs(Path(out_dir), model, manifest, run.rows, run.timing())
    shutil.rmtree(state_dir, ignore_errors=True)


def assemble(recipe, encoder, llm, parent_dir: Path | None, encoder_dir: Path | None) -> MLLM:
    """The model that a run starts with: its parent's, or published encoder and LLM with a fresh projector.

    ``encoder_dir``: the encoder of that run instead (Table 2: an encoder that was pretrained with another
    LLM).
    """
    parent = model_folder(parent_dir) if parent_dir else None
    if encoder_dir:
        vision = load_saved_encoder(model_folder(encoder_dir) / "encoder")
    else:
        vision = load_saved_encoder(parent / "encoder") if parent else load_encoder(encoder)
    language = SimpleNamespace(path=str(parent / "llm")) if parent else llm
    language_model = load_llm(language)
    if parent:
        projector = load_projector(parent / "projector")
        if projector.tiles != recipe.tiles:
            raise GranvitError(
                f"recipe {recipe.name}: tiles is {recipe.tiles}, its parent {recipe.parent} was trained "
                f"with {projector.tiles}; "
                "name a parent with the same tiling"
            )
    else:
        projector = Projector(
            feature_width(vision, recipe.tiles), language_model.config.hidden_size, recipe.tiles
        )
    return MLLM(vision, projector, language_model, load_tokenizer(language))


def model_folder(run_dir: Path) -> Path:
    """``model/`` of a run's folder; raises GranvitError where that run has not finished."""
    folder = Path(run_dir) / "model"
    if not folder.is_dir():
        raise GranvitError(
            f"run: {folder} does not exist; finish that run first (`snakemake {run_dir}/manifest.json`)"
        )
    return folder


class Run:
    """The course of one run: steps, held-out evaluations, log rows, saving."""

    def __init__(self, recipe, seed, model, parts, mixture: Path, heldout: Path | None, device, log) -> None:
        self.recipe, self.model, self.log = recipe, model, log
        self.label = f"{recipe.name} seed{seed}"
        rows = Mixture(mixture)
        order = Order(len(rows), recipe.epochs, recipe.batch_size, seed)
        again = recipe.epochs > 1
        remembers = again and "encoder" not in parts and FeatureStore.fits(len(rows), model)
        images = ImageStore(rows, model, keep=again and not remembers)
        features = None
        if remembers:
            features = FeatureStore(images, model, keep_encoding(model, device, recipe.precision))
        examples = Examples(rows, model, STAGES[recipe.stage].tasks, keep=again)
        batches = Batches(examples, images, order, model, recipe.distillation, with_pixels=features is None)
        self.trainer = Trainer(model, recipe, freeze_all_but(model, parts), batches, features, device)
        self.steps = order.steps
        asks = recipe.eval_every and heldout
        self.heldout = HeldOut(heldout, model, recipe.eval_images) if asks else None
        self.log_every = max(1, self.steps // LOG_ROWS)
        self.done, self.rows, self.sums, self.since, self.seconds = 0, [], {}, 0, 0.0
        self.began = time.monotonic()

    def train(self, save) -> None:
        """Do the steps that are left; ``save()`` is called every ``save_every`` steps and before an exit
        on a signal."""
        progress = Progress(
            self.steps, self.label, "images", self.log, per_step=self.recipe.batch_size, start=self.done
        )
        self.began = time.monotonic()
        if not self.done and self.heldout:
            self._log_row(self.heldout.evaluate())
        with StopRequest() as stop:
            while self.done < self.steps:
                metrics = self.trainer.step(self.done)
                self.done += 1
                self._account(metrics)
                progress.update(self.done, loss=metrics["loss"])
                if stop.requested or self.done % self.recipe.save_every == 0 or self.done == self.steps:
                    save()
                if stop.requested:
                    progress.say(
                        f"{self.label} | stopped at step {self.done}, state saved; start it again to go on"
                    )
                    raise SystemExit(EXIT_SAVED)

    def _account(self, metrics: dict[str, float]) -> None:
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
        images = min(self.done * self.recipe.batch_size, self.trainer.batches.order.total)
        row = {"step": self.done, "images": images, **means, **heldout}
        if self.done:
            row |= {f"lr_{group['part']}": group["lr"] for group in self.trainer.optimizer.param_groups}
        self.rows.append({name: row[name] for name in LOG_COLUMNS if name in row})
        self.sums, self.since = {}, 0

    def final_metrics(self) -> dict[str, float]:
        """The last log row's losses and held-out metrics."""
        return {name: value for name, value in self.rows[-1].items() if not name.startswith("lr_")}

    def timing(self) -> dict[str, float]:
        """Seconds of training over all attempts, and images a second."""
        seconds = self.seconds + time.monotonic() - self.began
        return {
            "seconds": round(seconds, 3),
            "images_per_second": round(self.rows[-1]["images"] / max(seconds, 1e-9), 2),
        }

    def state(self) -> dict:
        """Everything that decides what comes next."""
        return {
            **self.trainer.state(),
            "done": self.done, "rows": self.rows, "sums": self.sums, "since": self.since,
            "seconds": self.seconds + time.monotonic() - self.began,
        }  # fmt: skip

    def load(self, state: dict) -> None:
        """Go on from a saved state."""
        self.trainer.load(state)
        self.done, self.rows, self.sums = state["done"], state["rows"], state["sums"]
        self.since, self.seconds = state["since"], state["seconds"]


class StopRequest:
    """Turns SIGTERM and SIGUSR1 into a flag that is looked at between steps (schedulers warn before they
    kill)."""

    requested = False

    def __enter__(self) -> StopRequest:
        self.previous = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def _note(self, *_: object) -> None:
        self.requested = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
