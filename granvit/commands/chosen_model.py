"""Which model a command asks: the newest run that is fit, one by its name, a folder, or one from the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from granvit.commands.asked import say
from granvit.errors import GranvitError
from granvit.files import is_hub_id

_ENCODER, _PARTS = ("encoder",), ("encoder", "projector", "llm")
_FILES = ["*.json", "*.jinja", "*.safetensors"]


def model_options(command: argparse.ArgumentParser) -> None:
    """Add the options that name a model."""
    model = command.add_mutually_exclusive_group()
    model.add_argument(
        "--run",
        dest="run_of",
        metavar="RUN",
        help="a finished run by its recipe (`granvit runs`; default: the newest fit)",
    )
    model.add_argument(
        "--model", metavar="FOLDER", help="a model folder instead, such as a run's model/, or its hub id"
    )
    command.add_argument("--results", default="results", help="folder that holds the runs (results)")


def chosen_model(arguments: argparse.Namespace, ability: str | None) -> tuple[Path, str | None]:
    """The model folder that is meant and the name of its run, which is said.

    ``ability``: what it has to have been taught (`granvit.reporting.finished_runs`); None: its encoder is all
    that is asked. Raises GranvitError where there is none, or it was not taught this.
    """
    from granvit.reporting.finished_runs import find_run, finished_runs, newest_able, read_run, require_able

    if arguments.model:
        folder = _folder(_local(arguments.model), needs=_PARTS if ability else _ENCODER)
        manifest = folder.absolute().parent / "manifest.json"
        run = read_run(manifest.parent) if folder.name == "model" and manifest.is_file() else None
        if run is None and ability:
            say(f"model: {folder}; no manifest.json beside it says what it was taught")
    elif arguments.run_of:
        run = find_run(arguments.results, arguments.run_of)
        folder = _folder(run.folder, needs=_PARTS)
    else:
        run = newest_able(arguments.results, ability)
        folder = run.model
    if run is None:
        return folder, None
    if ability:
        require_able(run, finished_runs(run.results), ability)
    say(f"model: {run.label}" + ("" if arguments.model or arguments.run_of else " (the newest that is fit)"))
    return folder, run.label


def _local(given: str) -> Path:
    """The folder, or that of a hub id (``owner/name``) once its files are here."""
    if not is_hub_id(given):
        return Path(given)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(given, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        problem = str(error).strip().splitlines()[0]
        raise GranvitError(
            f"--model {given}: no such folder, and the hub does not give it ({problem}); go online, or give "
            "the folder of a model"
        ) from None


def _folder(given: Path, needs: tuple[str, ...]) -> Path:
    """The model folder itself, or that of a run's folder."""
    folder = given / "model" if (given / "model").is_dir() else given
    is_encoder = needs == _ENCODER and (folder / "preprocessor_config.json").is_file()
    if is_encoder or all((folder / part / "config.json").is_file() for part in needs):
        return folder
    if not given.is_dir():
        problem = "no such folder"
    elif (given / "processor_config.json").is_file():
        problem = (
            "an exported model, which transformers asks (docs/usage.md); give the run's own model folder"
        )
    else:
        problem = f"no model folder, which holds {', '.join(needs)}"
    raise GranvitError(f"{given}: {problem}; expected results/{{scale}}/{{stage}}/{{recipe}}/seed{{N}}/model")
