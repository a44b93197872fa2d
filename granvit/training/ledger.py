"""What a finished run took: images, tokens, FLOPs, time. From its manifest, its times and its mixture; only
shapes of a model are looked at, nothing is computed with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from granvit.config.recipes import Recipe
from granvit.files import read_json
from granvit.models.mllm import MLLM
from granvit.models.packing import ChatFormat
from granvit.training.cost import Work, training_cost
from granvit.training.examples import described_boxes, tokens_of
from granvit.training.stages import learning_parts

SAMPLE = 20_000  # images of a mixture that are counted; its rows are in the order of hashes: a random sample
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class ImageTokens:
    """What an average image of a mixture brings: tokens of its questions and answers, the supervised ones of
    them, the regions it is asked about, and how often something is said of it (regions and caption)."""

    text: float
    supervised: float
    boxes: list[int]
    described: float


def count_mixture(path: str | Path, chat: ChatFormat, sample: int = SAMPLE) -> ImageTokens:
    """The averages over a mixture's first ``sample`` images."""
    text = supervised = described = 0
    boxes: list[int] = []
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(1000, columns=["width", "height", "qa"]):
            for row in batch.to_pylist()[: sample - len(boxes)]:
                own = tokens_of(row["qa"], chat)
                text, supervised = text + own[0], supervised + own[1]
                described += len(described_boxes(row))
                boxes.append(len({tuple(pair["box"]) for pair in row["qa"] if pair["box"]}))
            if len(boxes) >= sample:
                break
    return ImageTokens(text / len(boxes), supervised / len(boxes), boxes, described / len(boxes))


def run_cost(manifest: dict[str, Any], timing: dict[str, Any], model: MLLM, mixture: Path) -> dict[str, Any]:
    """One run: ``images`` it saw (each as often as it did), ``supervised_tokens`` and ``tokens`` (image, text
    and template) in front of the language model, ``flops`` of forward and backward, ``teacher_flops`` among
    them, ``seconds``, ``devices`` and ``device_hours``.

    FLOPs are those of an average image (``cost.training_cost``) times the images. Where a frozen encoder's
    features are remembered in later epochs, they are counted as if they were computed again.
    """
    recipe, images = Recipe(**manifest["recipe"]), manifest["metrics"]["images"]
    count = count_mixture(mixture, model.chat)
    prefix = len(model.chat.before_image) + len(model.chat.after_image)
    spent = image_flops(recipe, count, prefix, model)
    read = 0.0 if recipe.contrastive else prefix + model.image_tokens + count.text
    return {
        "run": recipe.name,
        "stage": recipe.stage,
        "images": images,
        "supervised_tokens": round(images * count.supervised),
        "tokens": round(images * read),
        "flops": images * spent["total"],
        "teacher_flops": images * spent["teacher"],
        "seconds": timing["seconds"],
        "devices": manifest["ranks"],
        "device_hours": timing["seconds"] * manifest["ranks"] / SECONDS_AN_HOUR,
    }


def image_flops(recipe: Recipe, count: ImageTokens, prefix: int, model: MLLM) -> dict[str, float]:
    """FLOPs of an average image, by part. ``prefix``: tokens of the template before the text."""
    distillation, crops = recipe.distillation, 0.0
    if distillation:
        cut = [min(boxes, distillation.regions_per_image) for boxes in count.boxes]
        crops = sum(cut) / len(cut)
    asked = prefix + count.text - count.supervised
    work = Work(
        learning_parts(recipe),
        regions=0,
        caption=(asked, count.supervised),
        crops=crops,
        crop_size=distillation.crop_size if distillation else 0,
    )
    spent = training_cost(model, work)
    if recipe.contrastive:  # the language model is not asked, and described regions alone are projected
        projected = spent["projector"] * count.described / model.image_tokens
        spent |= {"llm": 0.0, "head": 0.0, "projector": projected}
        spent["total"] = sum(value for part, value in spent.items() if part != "total")
    return spent


def costs(folders: list[Path], models: dict[str, Path], mixtures: Path) -> dict[str, dict[str, Any]]:
    """``run_cost`` of the runs in ``folders``, by their recipes' names. ``models``: model folder by recipe,
    one of each kind of model among the runs; ``mixtures``: the folder of the mixtures. Raises GranvitError
    for a file that is missing."""
    manifests = {folder: read_json(folder / "manifest.json") for folder in folders}
    kinds: dict[tuple, MLLM] = {}
    for manifest in manifests.values():
        name, kind = manifest["recipe"]["name"], _kind(manifest)
        if name in models and kind not in kinds:
            kinds[kind] = MLLM.as_saved(models[name])
    found = {}
    for folder, manifest in manifests.items():
        recipe, timing = manifest["recipe"], read_json(folder / "timing.json")
        mixture = mixtures / f"{recipe['mixture']}.parquet"
        found[recipe["name"]] = run_cost(manifest, timing, kinds[_kind(manifest)], mixture)
    return found


def _kind(manifest: dict[str, Any]) -> tuple:
    """What decides the shapes of a run's model."""
    return tuple(manifest["recipe"][key] for key in ("encoder", "llm", "tiles"))
