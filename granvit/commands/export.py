"""``granvit export mllm | encoder``: a trained model as a plain folder for others, with its card."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.commands.asked import own_output
from granvit.errors import GranvitError

if TYPE_CHECKING:
    from granvit.reporting.finished_runs import Run

CARD = "README.md"


def add_commands(groups: Any) -> None:
    """Add the group `export` to the command line."""
    group = groups.add_parser("export", help="a trained model as a folder that transformers reads by itself")
    commands = group.add_subparsers(metavar="COMMAND", required=True)
    for name, words, run in (
        ("mllm", "the whole model as a LLaVA folder (AutoModelForImageTextToText)", run_mllm),
        ("encoder", "the vision encoder alone (AutoModel)", run_encoder),
    ):
        command = commands.add_parser(
            name, help=words, description=words,
            epilog=f"example: granvit export {name} mini/sft-granvit/seed0 exported",
        )  # fmt: skip
        command.add_argument("run_of", metavar="RUN", help="a finished run (`granvit runs`), or its folder")
        command.add_argument("out", metavar="OUT", help="folder to make")
        command.add_argument("--results", default="results", help="folder that holds the runs (results)")
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=run)


def run_mllm(arguments: argparse.Namespace) -> int:
    """Write the whole model, checked against the run's own."""
    run = _run(arguments)
    with own_output():
        from granvit.models.llava import save_llava
        from granvit.models.mllm import MLLM

        model = MLLM.load(run.model)
        layer = model.encoder.spec.feature_layer
        difference = save_llava(model, arguments.out)
    facts = {
        "largest difference of a logit from the training program's, on a test picture": f"{difference:.1e}",
        "feature layer": str(layer),
    }
    _write_card(arguments, run, "mllm", facts)
    _say(arguments, run, {"largest_logit_difference": difference}, f"logits differ by {difference:.1e}")
    return 0


def run_encoder(arguments: argparse.Namespace) -> int:
    """Copy the encoder, which a run keeps as a plain folder."""
    from granvit.files import whole_folder

    run = _run(arguments)
    with own_output():
        from granvit.models.encoders import load_saved_encoder

        layer = load_saved_encoder(run.model / "encoder").spec.feature_layer
    with whole_folder(arguments.out) as staged:  # copies, not links: who gets them may change them in place
        shutil.copytree(run.model / "encoder", staged, dirs_exist_ok=True)
    _write_card(arguments, run, "encoder", {"feature layer": str(layer)})
    _say(arguments, run, {"feature_layer": layer}, f"read its hidden_states[{layer}]")
    return 0


def _run(arguments: argparse.Namespace) -> Run:
    from granvit.reporting.finished_runs import find_run

    out = Path(arguments.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise GranvitError(f"{out}: something is there already; give a new folder, or remove it")
    given = Path(arguments.run_of)
    name = str(given.parent) if given.name == "model" and given.is_dir() else arguments.run_of
    run = find_run(arguments.results, name)
    if not run.model.is_dir():
        raise GranvitError(f"{run.model}: no such folder; the run's model was removed: train it again")
    return run


def _write_card(arguments: argparse.Namespace, run: Run, kind: str, facts: dict[str, str]) -> None:
    from granvit.files import write_text
    from granvit.reporting.finished_runs import finished_runs
    from granvit.reporting.model_card import model_card

    paths, sources = {"encoder": "", "llm": ""}, None
    if Path("config/config.yaml").is_file():
        from granvit.config.loading import load_config

        settings = load_config(run.recipe["scale"])
        sources = settings.data.sources
        for part, known in (("encoder", settings.encoders), ("llm", settings.llms)):
            paths[part] = known[run.recipe[part]].path if run.recipe[part] in known else ""
    runs = finished_runs(run.results)
    card = model_card(run, runs, kind, paths, facts, sources)
    write_text(Path(arguments.out) / CARD, str(card))


def _say(arguments: argparse.Namespace, run: Run, facts: dict[str, Any], words: str) -> None:
    out = arguments.out
    content = {"run": run.label, "out": out, "card": str(Path(out) / CARD), **facts}
    print(json.dumps(content, indent=2) if arguments.json else f"{out}: {run.label}; {words}")
