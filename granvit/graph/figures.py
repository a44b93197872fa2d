"""What figures depend on besides their input files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from granvit.config.figures import AttentionMaps, FiguresFile, QueryPoints, Scaling
from granvit.config.recipes import Recipe
from granvit.errors import GranvitError
from granvit.graph.data import mixture_settings
from granvit.graph.scale import Scale
from granvit.training.stages import STAGES, learning_parts

PARTS = ("encoder", "projector", "llm")
# Of answers to held-out questions, and of query points and their maps: sections of config/figures.yaml
ANSWER_FIGURES = ("figure4b", "figure10", "figure11", "figure12", "figure13")
MAP_FIGURES = ("figure1b", "figure8", "figure9")


def recipes_shown(sections: FiguresFile, figure: str) -> list[str]:
    """The recipes that a figure, or the maps' locality, shows, in their order, by its section of
    config/figures.yaml."""
    section = getattr(sections, figure)
    if isinstance(section, QueryPoints):
        section = sections.attention_maps
    if isinstance(section, AttentionMaps):
        return [*section.encoders.values()]
    if isinstance(section, Scaling):
        return section.leaves
    return [*section.runs.values()] if isinstance(section.runs, dict) else section.runs


def figure_facts(scale: Scale, sections: FiguresFile, figure: str, seed: int) -> dict[str, Any]:
    """What a figure says in its sidecar: its recipes with their hashes, and the settings that chose them.

    Raises GranvitError for an unknown recipe.
    """
    section = getattr(sections, figure)
    settings = {"seed": seed} | section.model_dump()
    if isinstance(section, QueryPoints):
        settings = sections.attention_maps.model_dump() | section.model_dump() | {"seed": seed}
    return shown_runs(scale, recipes_shown(sections, figure), settings)


def shown_runs(scale: Scale, recipes: Iterable[str], settings: dict[str, Any]) -> dict[str, Any]:
    """The facts of a figure of some runs: each recipe with its hash, and the settings that chose them."""
    hashes = {name: scale.recipe(name).hash for name in recipes}
    return {"scale": scale.name, "recipes": hashes, "settings": settings}


def pipeline(scale: Scale, recipes: Iterable[str]) -> list[dict[str, Any]]:
    """What Fig. 3 shows of each run, from its resolved recipe and its stage's definition: which parts learn
    at which rate, from which tasks, how many regions, with which losses and teacher.

    Raises GranvitError for an unknown recipe or mixture, and where nothing learns.
    """
    return [_panel(scale, scale.recipe(name)) for name in recipes]


def _panel(scale: Scale, recipe: Recipe) -> dict[str, Any]:
    learns = learning_parts(recipe)
    mixture = mixture_settings(scale, recipe.mixture)
    regions = "none" if mixture["kind"] != "regions" else mixture["regions"] or "all"
    distillation = recipe.distillation.model_dump() if recipe.distillation else None
    return {
        "recipe": recipe.name,
        "stage": recipe.stage,
        "parent": recipe.parent,
        "models": {"encoder": recipe.encoder, "llm": recipe.llm},
        "learns": {part: part in learns for part in PARTS},
        "learning_rate": recipe.learning_rate.model_dump(),
        "tasks": mixture.get("tasks", []),
        "allowed": list(STAGES[recipe.stage].tasks),  # of conversations, whose task their source decides
        "mixture": recipe.mixture,
        "regions": regions,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "distillation": distillation,
    }


def scaling_points(scale: Scale, figure5: Scaling) -> list[dict[str, str]]:
    """The points of Fig. 5: ``stage``, the ``recipe`` that is scored, and the ``mixture`` from which its
    ancestor of that stage learned.

    Raises GranvitError for an unknown recipe, and for one without such an ancestor.
    """
    points = []
    for stage in ("stage1", "stage2"):
        for name in getattr(figure5, stage):
            run = scale.recipe(name)
            while run.stage != stage:
                if not run.parent:
                    raise GranvitError(
                        f"config/figures.yaml: figure5.{stage}: '{name}' has no {stage} run before it; "
                        "name one that has"
                    )
                run = scale.recipe(run.parent)
            points.append({"stage": stage, "recipe": name, "mixture": run.mixture})
    return points
