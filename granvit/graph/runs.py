"""What training runs, answers and scores depend on, and which runs stand behind a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from granvit import finished
from granvit.config import steps
from granvit.config.recipes import Recipe
from granvit.config.tables import TableSpec, required_leaves
from granvit.errors import GranvitError
from granvit.evaluation import judge
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.graph.scale import Scale

# Columns of config/benchmarks.tsv that decide what a model is asked
ASKED = ("tsv", "split_prefix", "categories", "prompt", "max_new_tokens")


def run_settings(scale: Scale, recipe: str) -> dict[str, Any]:
    """Everything besides its files that a training run depends on."""
    resolved = scale.recipe(recipe)
    return {
        "recipe": resolved.model_dump(),
        "encoder": scale.config.encoders[resolved.encoder].model_dump(),
        "llm": scale.config.llms[resolved.llm].model_dump(),
    }


# The rule that makes the runs of each stage
TRAINING_RULES = {
    "projector": "pretrain_projector",
    "stage1": "train_stage1",
    "stage2": "train_stage2",
    "continued": "continue_pretraining",
    "sft": "finetune_sft",
}


def state_folder(scale: Scale, recipe: str, seed: str) -> str:
    """Where a run keeps what it needs to resume; no output, so that a retry finds it."""
    resolved = scale.recipe(recipe)
    return finished.state_folder(scale.name, resolved.stage, recipe, f"seed{seed}", resolved.hash)


def require_own_run(recipe: Recipe, asked: str, manifest: Path, is_recorded: Callable[[], bool]) -> None:
    """Raise GranvitError where a run's path names another stage (``asked``) than its recipe's, or where its
    ``manifest`` was written by another recipe and Snakemake cannot know: it keeps no record of a job that
    ended after its Snakemake was gone (``is_recorded`` says whether it has one), and takes the run for
    finished.
    """
    if recipe.stage != asked:
        right = str(manifest).replace(f"/{asked}/{recipe.name}/", f"/{recipe.stage}/{recipe.name}/")
        raise GranvitError(f"{manifest}: '{recipe.name}' is a recipe of {recipe.stage}; ask for {right}")
    try:
        found = json.loads(manifest.read_text(encoding="utf-8")).get("recipe_hash")
    except (OSError, ValueError):
        return  # nothing that could be taken for a finished run
    if found != recipe.hash and not is_recorded():
        raise GranvitError(
            f"{manifest}: recipe_hash is {str(found)[:8]}, but '{recipe.name}' is now {recipe.hash[:8]}, and "
            f"Snakemake has no record of that job, so it would take the old run for the new one; remove "
            f"{manifest.parent} to train it again, or change the settings back"
        )


def with_ancestors(scale: Scale, names: Iterable[str]) -> list[Recipe]:
    """The named recipes and all that they start from, each once, in the order of their names."""
    found: dict[str, Recipe] = {}
    queue = list(names)
    while queue:
        recipe = scale.recipe(queue.pop())
        found[recipe.name] = recipe
        queue += [other for other in (recipe.parent, recipe.encoder_from) if other]
    return [found[name] for name in sorted(found)]


def lineages(scale: Scale, table: str, tables: Mapping[str, TableSpec]) -> dict[str, list[str]]:
    """The runs behind each row of a table, by the row's recipe."""
    leaves = required_leaves(tables[table])
    return {leaf: [run.name for run in with_ancestors(scale, [leaf])] for leaf in leaves}


def offered(scale: Scale, tables: Mapping[str, TableSpec]) -> list[str]:
    """The tables all of whose runs a scale has the models for; those beyond the paper may need others."""
    return [name for name, table in tables.items() if scale.recipes.keys() >= {*required_leaves(table)}]


def cost_baseline(table: TableSpec, usual: str) -> str:
    """The recipe whose cost is 1 in a table: the usual one, or of a table that lacks it the first row's."""
    leaves = required_leaves(table)
    return usual if usual in leaves else leaves[0]


def cost_files(
    scale: Scale, table: str, tables: Mapping[str, TableSpec], seed: int
) -> dict[str, list[tuple]]:
    """What the cost of a table's runs is counted from: manifests and times of all that they start from, the
    mixtures that these went through, and a model of each row."""
    leaves = required_leaves(tables[table])
    behind = with_ancestors(scale, leaves)
    return {
        "manifests": [("manifest", run.name, seed) for run in behind],
        "timings": [("timing", run.name, seed) for run in behind],
        "models": [("model", name, seed) for name in leaves],
        "mixtures": [("mixture", name) for name in sorted({run.mixture for run in behind})],
    }


def mixtures_of(runs: Iterable[Recipe]) -> list[str]:
    """Every mixture that the runs are trained, evaluated or measured on."""
    runs = list(runs)
    found = {run.mixture for run in runs} | {run.tokens_of for run in runs if run.tokens_of}
    return sorted(found | {"heldout" for run in runs if run.eval_every})


def question_settings(scale: Scale) -> dict[str, Any]:
    """Where the benchmarks' files are, and what they are rendered from."""
    data = scale.config.data
    return {
        "folder": data.benchmarks,
        "rendered": data.rendered_questions,
        "from": data.rendered_from,
        "version": steps.version("benchmarks"),
    }


def dev_settings(scale: Scale) -> dict[str, Any]:
    """`scored_settings` of the questions that the miniature renders for tuning."""
    folder = f"results/{scale.name}/dev/benchmarks"
    return scored_settings(scale) | {"folder": folder, "from": 0}


def standin_manifests(scale: Scale, kind: str) -> list[str]:
    """The manifests of the ``llms`` or ``encoders`` of a scale that starts from stand-ins."""
    return [f"{spec.path}/manifest.json" for spec in getattr(scale.config, kind).values()]


def asked_settings(scale: Scale) -> dict[str, Any]:
    """What answers depend on besides their model: the questions, and how each benchmark asks them."""
    return question_settings(scale) | {"rows": _rows(*ASKED)}


def scored_settings(scale: Scale) -> dict[str, Any]:
    """What scores depend on besides answers and judge: the questions, and how each benchmark marks them. A
    score's file also says how they were asked."""
    return question_settings(scale) | {"rows": _rows(*ASKED, "rule", "md5")}


def _rows(*columns: str) -> dict[str, dict[str, Any]]:
    """These columns of config/benchmarks.tsv, by benchmark."""
    lines = load_benchmarks()
    return {line.name: {name: getattr(line, name) for name in columns} for line in lines}


def judge_settings(scale: Scale) -> dict[str, str | bool | None] | None:
    """The judge that scores depend on, and its version; None without one."""
    return judge.identity(scale.config.evaluation.judge)
