"""The saved state of a run that is finished. It stays until Snakemake has seen the run's end: it removes the
outputs of a job that it did not see end, and from the state they are written again in no time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path


def state_folder(scale: str, stage: str, recipe: str, seed: str, recipe_hash: str) -> str:
    """Where a run's resumable state lies; another one for every change of its recipe. ``seed``: seedN."""
    return f"state/{scale}/{stage}/{recipe}/{seed}-{recipe_hash[:8]}"


def remove_state_of(*run_dirs: str | Path | None) -> None:
    """Remove the saved states of finished runs (``results/{scale}/{stage}/{recipe}/seed{N}``). Only for
    who knows that Snakemake has seen their end: jobs that start from a run, or answer with it, do."""
    for run_dir in filter(None, run_dirs):
        state = state_of(Path(run_dir))
        if state and not (state / "owner.json").exists():
            shutil.rmtree(state, ignore_errors=True)


def remove_seen_states(is_recorded: Callable[[str], bool]) -> None:
    """Remove the saved states of all runs of this folder whose end Snakemake has seen: ``is_recorded`` says
    so of a manifest."""
    for folder in Path("state").glob("*/*/*/seed*-*"):
        run = Path("results", *folder.parts[1:4], folder.name.partition("-")[0])
        if is_recorded(str(run / "manifest.json")):
            remove_state_of(run)


def state_of(run_dir: Path) -> Path | None:
    """Where a finished run's state would be; None for one that is not finished."""
    try:
        made_by = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))["recipe_hash"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    scale, stage, recipe, seed = run_dir.parts[-4:]
    return run_dir.parents[4] / state_folder(scale, stage, recipe, seed, made_by)
