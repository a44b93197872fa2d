"""The stages of the paper as data (Sec. 4.1, 4.3, 5.1): what learns, from which tasks, with which losses.

There is one training loop. A recipe may change what learns (Tables 9 and 10 do); tasks and losses belong
to the stage.
"""

from __future__ import annotations

from dataclasses import dataclass

from granvit.errors import GranvitError

GLOBAL_CAPTION, BBOX2CAPTION, CAPTION2BBOX = "global_caption", "bbox2caption", "caption2bbox"
INSTRUCTION = "instruction"
REGION_TASKS = (BBOX2CAPTION, CAPTION2BBOX)


@dataclass(frozen=True)
class Stage:
    """``learns``: the paper's choice of parts; ``tasks``: what its mixtures may hold; ``distils``:
    whether L_distill may be added."""

    learns: tuple[str, ...]
    tasks: tuple[str, ...]
    distils: bool


STAGES = {
    # Sec. 5.1: the projector learns to speak to the language model from image captions alone.
    "projector": Stage(("projector",), (GLOBAL_CAPTION, INSTRUCTION), distils=False),
    # Sec. 4.1: the frozen language model is the decoder that teaches the encoder; Sec. 4.2 also tries
    # both region tasks.
    "stage1": Stage(("encoder", "projector"), (GLOBAL_CAPTION, *REGION_TASKS), distils=True),
    # Sec. 4.1: the language model learns to use fine-grained features that no longer change.
    "stage2": Stage(("projector", "llm"), (GLOBAL_CAPTION, *REGION_TASKS), distils=False),
    "sft": Stage(("encoder", "projector", "llm"), (INSTRUCTION,), distils=False),
    # A.8: general pretraining on other data, to compare with.
    "continued": Stage(("encoder", "projector", "llm"), (INSTRUCTION, GLOBAL_CAPTION), distils=False),
}


def learning_parts(recipe) -> tuple[str, ...]:
    """The parts that this recipe trains; raises GranvitError when nothing learns or a loss has nobody to
    teach."""
    stage = STAGES[recipe.stage]
    parts = tuple(part for part in ("encoder", "projector", "llm") if getattr(recipe.trains, part))
    if not parts:
        raise GranvitError(f"recipe {recipe.name}: trains: all parts are frozen; set at least one to true")
    if recipe.distillation and not (stage.distils and "encoder" in parts):
        raise GranvitError(
            f"recipe {recipe.name}: distillation: {recipe.stage} with "
            f"trains.encoder={recipe.trains.encoder} cannot distil; "
            "only stage1 with a trained encoder can. Set distillation: null"
        )
    return parts
