"""One training run from its recipe to its folder: assemble, train or resume, measure, and write
everything last."""

from __future__ import annotations

from pathlib import Path

from granvit.config.schema import LLMSpec
from granvit.device import seed_everything
from granvit.errors import GranvitError
from granvit.models.attention import joins_images
from granvit.models.encoders import load_encoder, load_saved_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, feature_width
from granvit.models.projector import Projector, load_projector
from granvit.training.batches import Batches, Order, Samples, Share
from granvit.training.checkpoint import States
from granvit.training.engine import Cluster
from granvit.training.examples import Examples, Mixture, count_tokens
from granvit.training.heldout import HeldOut
from granvit.training.images import FeatureStore, ImageStore
from granvit.training.job import Job
from granvit.training.loop import Loop, Trainer
from granvit.training.memory import require_memory
from granvit.training.outputs import describe_model, hash_inputs, make_manifest, write_outputs
from granvit.training.speed import prepare_model
from granvit.training.stages import STAGES, learning_parts


def train(job: Job) -> None:
    """Train ``job.recipe`` and write manifest.json, timing.json, training_log.csv and model/ into
    ``job.out_dir``; one of many ranks calls this too (granvit.training.launch).

    On SIGTERM, SIGUSR1 or SIGUSR2 the state is saved and the process exits with code 85 (EXIT_SAVED). Raises
    GranvitError on anything that does not fit together.
    """
    recipe, parts = job.recipe, learning_parts(job.recipe)
    cluster = Cluster(job.device, job.compute.sharding, recipe)
    seed_everything(job.seed)
    inputs = cluster.once(lambda: hash_inputs(job))
    model = assemble(job).to(cluster.device)
    described = describe_model(model, parts)
    fingerprint = {
        "recipe_hash": recipe.hash, "seed": job.seed, "inputs": inputs,
        "ranks": cluster.size, "sharding": cluster.sharding,
    }  # fmt: skip
    states = States(job.state_dir, fingerprint, job.compute.keep_states, cluster, job.log)
    trainer = make_trainer(job, model, cluster)
    evaluates = recipe.eval_every and job.heldout
    asked = recipe.eval_images, recipe.precision, cluster, job.compute.tokens_per_batch
    heldout = HeldOut(job.heldout, model, *asked) if evaluates else None
    log = Loop(job, trainer, heldout, states).run()
    manifest = make_manifest(job, inputs, described, cluster, log.summary())
    write_outputs(job, trainer.engine, model, log, manifest)
    states.finish()
    cluster.close()


def make_trainer(job: Job, model: MLLM, cluster: Cluster) -> Trainer:
    """The trainer of a run, with the batches that it asks for.

    Features of a frozen encoder are remembered where several epochs will ask for them and memory lasts.
    Raises GranvitError where the mixture does not fit the recipe's stage, or a step the device's memory.
    """
    recipe, compute = job.recipe, job.compute
    prepare_model(model, recipe, compute, cluster.device)
    require_memory(model, recipe, compute, cluster.size)
    mixture = load_mixture(job, cluster)
    epochs = recipe.epochs
    if job.matched:
        epochs = cluster.once(lambda: matched_epochs(epochs, mixture, Mixture(job.matched), model))
    order = Order(len(mixture), epochs, recipe.batch_size, job.seed)
    again = epochs > 1
    remembers = again and not recipe.trains.encoder and FeatureStore.fits(len(mixture), model)
    images = ImageStore(mixture, model, keep=again and not remembers)
    features = FeatureStore(images, model, recipe.precision) if remembers else None
    examples = Examples(mixture, model, STAGES[recipe.stage].tasks, again, recipe.turns)
    share = Share(cluster.rank, cluster.size, compute.tokens_per_batch, joins_images(model.llm))
    samples, contrasts = Samples(examples, images, features), recipe.contrastive is not None
    batches = Batches(samples, order, model, recipe.distillation, share, contrasts)
    return Trainer(model, recipe, batches, cluster, compute)


def matched_epochs(epochs: float, own: Mixture, other: Mixture, model: MLLM) -> float:
    """How often a run goes through its ``own`` mixture to see as many supervised tokens as ``epochs`` epochs
    of the ``other`` one have."""
    wanted, once = (count_tokens(mixture, model.chat)[1] for mixture in (other, own))
    return epochs * wanted / once


def load_mixture(job: Job, cluster: Cluster) -> Mixture:
    """The mixture; where it has to be copied into the state folder first, the main rank does it for all."""
    if cluster.is_main:
        Mixture(job.mixture, job.state_dir)
    cluster.wait()
    return Mixture(job.mixture, job.state_dir)


def assemble(job: Job) -> MLLM:
    """The model that a run starts with: its parent's, or published encoder and LLM with a fresh projector.

    Raises GranvitError where the parent has not finished or was trained with another tiling.
    """
    recipe = job.recipe
    parent = model_folder(job.parent_dir) if job.parent_dir else None
    if job.encoder_dir:
        encoder = load_saved_encoder(model_folder(job.encoder_dir) / "encoder")
    else:
        encoder = load_saved_encoder(parent / "encoder") if parent else load_encoder(job.encoder)
    spec = LLMSpec(path=str(parent / "llm")) if parent else job.llm
    llm = load_llm(spec)
    if parent:
        projector = load_projector(parent / "projector")
        if projector.tiles != recipe.tiles:
            raise GranvitError(
                f"recipe {recipe.name}: tiles is {recipe.tiles}, its parent {recipe.parent} was trained "
                f"with {projector.tiles}; name a parent with the same tiling"
            )
    else:
        width = feature_width(encoder, recipe.tiles)
        projector = Projector(width, llm.config.hidden_size, recipe.tiles)
    return MLLM(encoder, projector, llm, load_tokenizer(spec))


def model_folder(run_dir: Path) -> Path:
    """``model/`` of a run's folder; raises GranvitError where that run has not finished."""
    folder = run_dir / "model"
    if not folder.is_dir():
        raise GranvitError(
            f"run: {folder} does not exist; finish that run first (`snakemake {run_dir}/manifest.json`)"
        )
    return folder
