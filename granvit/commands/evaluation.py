"""``granvit eval predict | export``, and the options that all of its commands share. Those that score are in
`granvit.commands.scores`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from granvit.commands import scores
from granvit.commands.asked import asked, check_named, common, positive
from granvit.errors import GranvitError


def add_commands(groups: Any) -> None:
    """Add the group `eval` to the command line."""
    group = groups.add_parser("eval", help="answers, scores and comparisons on the benchmarks")
    commands = group.add_subparsers(metavar="COMMAND", required=True)

    predict = commands.add_parser("predict", help="ask a trained model the benchmarks")
    predict.add_argument("model", help="model folder: results/{scale}/sft/{recipe}/seed{N}/model")
    predict.add_argument("out", help="folder for {benchmark}.jsonl; a killed job goes on from what is there")
    predict.add_argument("--device", help="auto | cpu | cuda | npu (default: the configuration's)")
    predict.add_argument("--devices", type=int, default=1, help="processes, one a device")
    predict.add_argument("--batch-size", type=int, help="questions answered at a time")
    predict.add_argument("--shuffle-images", action="store_true", help="show other images: chance level")
    predict.add_argument(
        "--reuse", action=argparse.BooleanOptionalAction, default=True,
        help="finished answers of the same model to the same questions stay",
    )  # fmt: skip
    predict.add_argument("--shard", metavar="I/N", help="only part I (0 to N - 1) of N, on this node")
    predict.add_argument("--merge", action="store_true", help="write the files once all shards are done")
    common(predict)
    predict.set_defaults(run=run_predict)

    scores.add_commands(commands)

    export = commands.add_parser("export", help="predictions for another toolkit to score")
    export.add_argument("predictions", help="folder of {benchmark}.jsonl")
    export.add_argument("out", help="folder for {model}_{dataset}.tsv")
    export.add_argument("--format", choices=["vlmevalkit"], required=True)
    export.add_argument("--model-name", default="granvit", help="the model's name in that toolkit")
    common(export, limit=False)
    export.set_defaults(run=run_export)


def run_predict(arguments: argparse.Namespace) -> int:
    """Ask a model; the one command here that needs torch. Raises GranvitError for a setting below 1, and for
    options that do not go together.
    """
    from granvit.evaluation.asks import PredictionJob
    from granvit.evaluation.launch import merge, predict_on_devices, predict_shard

    positive(arguments, "devices", "batch_size")
    shard = _shard(arguments)
    settings, benchmarks, data = asked(arguments)
    job = PredictionJob(
        model_dir=Path(arguments.model),
        benchmarks=benchmarks,
        data_dir=Path(data),
        out_dir=Path(arguments.out),
        batch_size=arguments.batch_size or settings.evaluation.batch_size,
        device=arguments.device or settings.compute.device,
        shuffle_images=arguments.shuffle_images,
        limit=arguments.limit,
        reuse=arguments.reuse,
    )
    if arguments.merge:
        merge(job)
    elif shard:
        predict_shard(job, *shard)
    else:
        predict_on_devices(job, arguments.devices)
    return 0


def _shard(arguments: argparse.Namespace) -> tuple[int, int] | None:
    if sum([arguments.shard is not None, arguments.merge, arguments.devices > 1]) > 1:
        raise GranvitError(
            "granvit eval predict: --shard, --merge and --devices do not go together; see --help"
        )
    if arguments.shard is None:
        return None
    part, _, parts = arguments.shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise GranvitError(
            f"--shard is '{arguments.shard}'; expected I/N with I from 0 to N - 1, such as 0/4"
        )
    return int(part), int(parts)


def run_export(arguments: argparse.Namespace) -> int:
    """Write the files and name them."""
    from granvit.evaluation.export import export_vlmevalkit

    _, benchmarks, data = asked(arguments)
    made = [one for one in benchmarks if (Path(arguments.predictions) / f"{one.slug}.jsonl").is_file()]
    check_named(arguments, arguments.predictions, benchmarks, made)
    print(
        *export_vlmevalkit(arguments.predictions, benchmarks, data, arguments.out, arguments.model_name),
        sep="\n",
    )
    return 0
