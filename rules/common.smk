"""Settings, and helper functions of the rules that make runs, answers and scores."""

import shutil
import sys
from functools import lru_cache, wraps

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from granvit.config import steps
from granvit.config.loading import SCALES, load_config, merge, read_words, resolve_all
from granvit.data.sources.table import read_sources
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.judge import identity
from granvit.config.tables import load_tables, required_forward_runs, required_leaves


def told_plainly(function):
    """A user's mistake becomes Snakemake's own one-message error instead of a traceback."""

    @wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except GranvitError as error:
            raise WorkflowError(str(error)) from None

    return wrapper


# What the user overrides on the command line or in a profile; every scale's own file stays below it.
OVERRIDES = merge(
    dict(workflow.config_settings.overwrite_config), read_words(dict(workflow.config_settings.config))
)
config["overrides"] = OVERRIDES  # for scripts that read a setting which reruns nothing


@lru_cache(maxsize=None)
@told_plainly
def settings(scale):
    """The resolved configuration of one scale."""
    return load_config(scale, OVERRIDES)


@lru_cache(maxsize=None)
@told_plainly
def recipes(scale):
    """All resolved recipes of one scale, by name."""
    return resolve_all(settings(scale))


@lru_cache(maxsize=None)
@told_plainly
def sources(scale):
    """The sources of one scale, by name."""
    return read_sources(settings(scale).data.sources)


@told_plainly
def recipe_of(wildcards):
    """The resolved recipe that a job's wildcards name."""
    known = recipes(wildcards.scale)
    if wildcards.recipe not in known:
        raise GranvitError(f"'{wildcards.recipe}' is not a recipe of config/recipes.yaml; add it there or correct the name")
    return known[wildcards.recipe]


if workflow.non_local_exec and not workflow.dryrun and shutil.which("sbatch") is None:
    raise WorkflowError("profile: SLURM's sbatch is not on PATH; run this on a login node of the cluster")

SCALE = config["scale"]
SEED = config["seed"]
settings(SCALE), recipes(SCALE), sources(SCALE)  # every mistake is told before the first job
TABLES = told_plainly(load_tables)()
BENCHMARKS = {benchmark.slug: benchmark.tsv for benchmark in told_plainly(load_benchmarks)()}
# The two rows that are compared over several seeds
COMPARED = ["sft-siglip2", "sft-granvit"]


wildcard_constraints:
    scale="|".join(SCALES),
    source=r"[A-Za-z0-9_-]+",
    shard=r"\d{5}",
    mixture=r"[A-Za-z0-9-]+",
    stage="projector|stage1|stage2|sft|continued",
    recipe=r"[a-z0-9][a-z0-9.-]*",
    seed=r"\d+",
    table=r"table\d+",


def is_rendered(scale):
    """Whether this scale's benchmarks and models are the miniature's."""
    return settings(scale).models == "standins"


def run_folder(scale, recipe, seed):
    """Where a training run puts what it makes."""
    return f"results/{scale}/{recipes(scale)[recipe].stage}/{recipe}/seed{seed}"


def start_of_run(wildcards):
    """Input files of a training run: its mixtures, and the checkpoints it starts from."""
    scale, recipe = wildcards.scale, recipe_of(wildcards)
    mixtures = f"results/{scale}/data/mixtures"
    files = {"mixture": f"{mixtures}/{recipe.mixture}.parquet"}
    if recipe.eval_every:
        files["heldout"] = f"{mixtures}/heldout.parquet"
    if recipe.parent:
        files["parent"] = f"{run_folder(scale, recipe.parent, wildcards.seed)}/manifest.json"
        files["parent_model"] = f"{run_folder(scale, recipe.parent, wildcards.seed)}/model"
    if recipe.encoder_from:
        files["encoder_from"] = f"{run_folder(scale, recipe.encoder_from, wildcards.seed)}/manifest.json"
        files["encoder_from_model"] = f"{run_folder(scale, recipe.encoder_from, wildcards.seed)}/model"
    if is_rendered(scale) and not recipe.parent:
        config_of_scale = settings(scale)
        files["llm"] = f"{config_of_scale.llms[recipe.llm].path}/model.safetensors"
        if not recipe.encoder_from:
            files["encoder"] = f"{config_of_scale.encoders[recipe.encoder].path}/model.safetensors"
    return files


def run_settings(wildcards):
    """Everything besides its files that a training run depends on."""
    recipe, config_of_scale = recipe_of(wildcards), settings(wildcards.scale)
    return {
        "recipe": recipe.model_dump(),
        "encoder": config_of_scale.encoders[recipe.encoder].model_dump(),
        "llm": config_of_scale.llms[recipe.llm].model_dump(),
    }


def state_folder(wildcards):
    """Where a run keeps what it needs to resume; no output, so that a retry finds it."""
    recipe = recipe_of(wildcards)
    return f"state/{recipe.scale}/{recipe.stage}/{recipe.name}/seed{wildcards.seed}-{recipe.hash[:8]}"


def trained_model(wildcards):
    """The model folder of the run that a prediction is made with."""
    recipe_of(wildcards)
    return f"{run_folder(wildcards.scale, wildcards.recipe, wildcards.seed)}/model"


def question_files(wildcards):
    """The benchmarks' files, where a rule renders them; the user's own are no declared input.

    What they hold follows from `question_settings`, so that a fresh copy of the same questions reruns nothing.
    """
    folder = settings(wildcards.scale).data.benchmarks
    files = sorted({f"{folder}/{tsv}" for tsv in BENCHMARKS.values()})
    return [ancient(file) for file in files] if is_rendered(wildcards.scale) else []


def question_settings(wildcards):
    """Where the benchmarks' files are, and what they are rendered from."""
    data = settings(wildcards.scale).data
    return {"folder": data.benchmarks, "rendered": data.rendered_questions, "version": steps.version("benchmarks")}


def judge_identity(wildcards):
    """The judge that scores depend on, and its version; None without one."""
    return identity(settings(wildcards.scale).evaluation.judge)


def benchmark_files(folder, suffix):
    """One file a benchmark, by the benchmark's slug."""
    return [f"{folder}/{slug}.{suffix}" for slug in BENCHMARKS]


SMALLEST_LLM = "Qwen2.5-1.5B"  # standin_llms.SMALLEST, without the import of torch


def smallest_llm(wildcards):
    """The stand-in that the larger ones grow from; it starts from nothing itself."""
    return [] if wildcards.llm == SMALLEST_LLM else f"results/standins/llms/{SMALLEST_LLM}"


def aligned_llm(wildcards):
    """The LLM that SAILViT's stand-in is aligned with; the other encoders see none."""
    return f"results/standins/llms/{SMALLEST_LLM}" if wildcards.encoder == "SAILViT" else []
