"""One training run from its recipe to its folder: assemble, train or resume, measure, and write
everything last."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from granvit.config.compute import RunCompute
from granvit.device import seed_everything
from granvit.errors import GranvitError
from granvit.models.attention import choose_attention
from granvit.models.encoders import load_encoder, load_saved_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, feature_width
from granvit.models.projector import Projector, load_projector
from granvit.training.batches import Batches, Order
from granvit.training.checkpoint import States
from granvit.training.course import Course
from granvit.training.engine import Cluster
from granvit.training.examples import Examples, Mixture
from granvit.training.heldout import HeldOut
from granvit.training.images import FeatureStore, ImageStore
from granvit.training.loop import Trainer, freeze_all_but, keep_encoding
from granvit.training.outputs import describe_model, hash_inputs, make_manifest, write_outputs
from granvit.training.stages import STAGES, learning_parts


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
    compute: RunCompute | None = None,
) -> None:
    """Train ``recipe`` and write manifest.json, timing.json, training_log.csv and model/ into ``out_dir``.

    ``encoder``, ``llm``: specs (config/encoders.yaml, llms.yaml) that a run without parent starts from;
    ``parent_dir``: run folder of the recipe's parent; ``encoder_dir``: run folder whose encoder replaces
    the one above;
    ``state_dir``: where the resumable state lives, removed at the end; ``compute``: how the work is laid out
    (one of many ranks calls this too: granvit.training.launch). On SIGTERM, SIGUSR1 or SIGUSR2 the state is
    saved and the process exits with code 85 (EXIT_SAVED). Raises GranvitError on anything that does not
    fit together.
    """
    compute, parts = compute or RunCompute(), learning_parts(recipe)
    cluster = Cluster(device, compute.sharding, recipe)
    seed_everything(seed)
    inputs = hash_inputs(encoder, llm, parent_dir, encoder_dir, mixture, heldout)
    model = assemble(recipe, encoder, llm, parent_dir, encoder_dir).to(cluster.device)
    described = describe_model(model, parts)
    fingerprint = {
        "recipe_hash": recipe.hash, "seed": seed, "inputs": inputs,
        "ranks": cluster.size, "sharding": cluster.sharding,
    }  # fmt: skip
    states = States(state_dir, fingerprint, compute.keep_states, cluster)
    mixture = load_mixture(Path(mixture), Path(state_dir), cluster)
    trainer = make_trainer(recipe, seed, model, parts, mixture, cluster, compute)
    evaluates = recipe.eval_every and heldout
    questions = HeldOut(heldout, model, recipe.eval_images) if evaluates else None
    course = Course(recipe, seed, trainer, questions, states, compute.max_skipped_share, log)
    course.train()
    manifest = make_manifest(recipe, seed, inputs, described, cluster, course.summary())
    write_outputs(Path(out_dir), trainer.engine, model, manifest, course.rows, course.timing())
    states.remove()
    cluster.close()


def load_mixture(path: Path, cache: Path, cluster: Cluster) -> Mixture:
    """The mixture; where it has to be copied into ``cache`` first, the main rank does it for all."""
    if cluster.is_main:
        Mixture(path, cache)
    cluster.wait()
    return Mixture(path, cache)


def make_trainer(
    recipe, seed: int, model: MLLM, parts: tuple, mixture: Mixture, cluster: Cluster, compute: RunCompute
) -> Trainer:
    """The trainer of a run, with the batches that it asks for.

    Features of a frozen encoder are remembered where several epochs will ask for them and memory lasts.
    """
    order = Order(len(mixture), recipe.epochs, recipe.batch_size, seed)
    again = recipe.epochs > 1
    remembers = again and "encoder" not in parts and FeatureStore.fits(len(mixture), model)
    images = ImageStore(mixture, model, keep=again and not remembers)
    features = None
    if remembers:
        features = FeatureStore(images, model, keep_encoding(model, cluster.device, recipe.precision))
    examples = Examples(mixture, model, STAGES[recipe.stage].tasks, keep=again)
    batches = Batches(
        examples, images, order, model, recipe.distillation, features,
        compute.tokens_per_batch, cluster.rank, cluster.size,
    )  # fmt: skip
    choose_attention(model.llm, compute.attention, cluster.device)
    if compute.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return Trainer(model, recipe, freeze_all_but(model, parts), batches, features, cluster, compute)


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
