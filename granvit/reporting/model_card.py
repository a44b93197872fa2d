"""The card of a model that leaves the project (README.md of its folder), made from the run's manifest and
what lies beside it: data, budgets, results with intervals, licences of the parts, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from granvit.config.reading import read_yaml
from granvit.data.sources.table import read_sources
from granvit.files import is_hub_id, read_json
from granvit.reporting.finished_runs import Run, lineage, taught
from granvit.reporting.markdown import SCALE_NOTES, table

LICENCES_FILE = "config/licences.yaml"
USES = {
    "mllm": '''```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this folder, or its name on the hub
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder, backend="pil")
content = [{"type": "image", "image": Image.open("photo.jpg")}, {"type": "text", "text": "What is this?"}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
answer = model.generate(**inputs, max_new_tokens=64)[:, inputs["input_ids"].shape[1]:]
print(processor.batch_decode(answer, skip_special_tokens=True)[0])
```''',
    "encoder": '''```python
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

folder = "."  # this folder, or its name on the hub
encoder = AutoModel.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder, backend="pil")  # pad to a square first
pixels = processor(Image.open("photo.jpg").convert("RGB"), return_tensors="pt")
features = encoder(**pixels, output_hidden_states=True).hidden_states[{layer}]
```''',
}  # fmt: skip
LIMITS = {
    "mllm": (
        "It answers greedily, in the words that it was trained on: `Describe the content contained within "
        "the normalized bounding box coordinates [x1, y1, x2, y2] in no more than 10 words.` and `Please "
        "provide the bounding box coordinate of the region this sentence describes: ...`, with boxes as "
        "fractions of the image.",
        "A control token of the language model, or `<image>`, that stands in a question is read as such; "
        "the training program reads it as text.",
        "The processor resizes as Pillow does. Its torchvision backend rounds otherwise, by a level or two.",
    ),
    "encoder": (
        "Images were padded to a centred square in the mean colour before they were resized; "
        "AutoImageProcessor only resizes.",
        "Layers behind the one that is read were not trained.",
    ),
}


def model_card(
    run: Run,
    runs: Sequence[Run],
    kind: str,
    paths: Mapping[str, str],
    facts: Mapping[str, str],
    sources: str | None = None,
) -> ModelCard:
    """The card of a run's whole model (``kind``: mllm) or its encoder.

    ``runs``: all finished ones, for its ancestors; ``paths``: where the encoder and the LLM came from
    (``encoder``, ``llm``; empty where that is not known); ``facts``: further lines of the head;
    ``sources``: the sources file, for their licences. What the hub reads of the results are those on official
    benchmark files.
    """
    whole = kind == "mllm"
    parts = {name: path for name, path in paths.items() if whole or name == "encoder"}
    scores = run.scores if whole else {}
    official = [_eval_result(name, of) for name, of in scores.items() if of.get("official_data")]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-text-to-text" if whole else "image-feature-extraction",
        base_model=[path for path in parts.values() if is_hub_id(path)] or None,
        license="other",
        license_name="licences-of-its-parts",
        tags=["granvit"],
        model_name=run.label if official else None,
        eval_results=official or None,
    )
    trained = lineage(run, runs)
    body = [
        f"# {run.label}",
        _head(run, kind, parts, facts, sorted(taught(run, runs))),
        "## How to use it",
        USES[kind].replace("{layer}", str(facts.get("feature layer", -2))),
        "## Parts and their licences",
        table(["part", "from", "licence"], _licences(run, parts), 3),
        "## Training",
        table(_TRAINED, list(map(_trained, trained)), 4),
        f"Recipe {run.manifest.get('recipe_hash', '')}, seed {run.seed}; "
        + ", ".join(f"{name} {version}" for name, version in run.manifest.get("versions", {}).items()),
        *_data(trained, sources),
        *_results(scores, run.recipe["scale"]),
        "## Limits",
        "\n".join(f"- {line}" for line in LIMITS[kind]),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(part.strip() for part in body) + "\n")


def _head(run: Run, kind: str, parts: Mapping[str, str], facts: Mapping[str, str], can: Sequence[str]) -> str:
    what = "A vision-language model" if kind == "mllm" else "The vision encoder of a vision-language model"
    recipe, counts = run.recipe, run.manifest.get("parameters", {})
    lines = [f"{what}, trained by GranViT's recipe `{recipe['name']}` at scale `{recipe['scale']}`.", ""]
    lines.append(f"- encoder: {recipe['encoder']}" + (f", language model: {recipe['llm']}" if parts else ""))
    if kind == "mllm":
        lines.append(f"- was taught to: {', '.join(can)}")
        lines.append(f"- parameters: {counts.get('total', '?')}; tokens of an image: "
                     f"{run.manifest.get('image_tokens', '?')}")  # fmt: skip
    else:
        lines.append(f"- parameters: {counts.get('encoder', '?')}")
    return "\n".join([*lines, *(f"- {name}: {value}" for name, value in facts.items())])


def _licences(run: Run, parts: Mapping[str, str]) -> list[list[str]]:
    known = read_yaml(LICENCES_FILE) if Path(LICENCES_FILE).is_file() else {}
    own = "apache-2.0 (a stand-in of this project)"
    rows = []
    for name, path in parts.items():
        called, is_standin = run.recipe[name], path.startswith("standins/")
        licence = own if is_standin else known.get(path, "unknown")
        rows.append([f"{name} {called}", path or "unknown", str(licence)])
    return rows


_TRAINED = ["run", "stage", "learned", "data", "images", "steps", "loss"]


def _trained(run: Run) -> list[str]:
    metrics, learned = run.manifest.get("metrics", {}), run.recipe.get("trains", {})
    loss = metrics.get("loss")
    return [
        run.label, run.recipe["stage"], ", ".join(part for part, is_on in learned.items() if is_on),
        str(run.recipe.get("mixture", "?")), str(metrics.get("images", "?")), str(metrics.get("step", "?")),
        "?" if loss is None else f"{loss:.4g}",
    ]  # fmt: skip


def _data(runs: Sequence[Run], sources: str | None) -> list[str]:
    """The sources of all mixtures, with their licences; nothing where the mixtures are gone."""
    rows, licences = [], _source_licences(sources)
    for run in runs:
        mixture = str(run.recipe.get("mixture"))
        file = run.scale_folder / "data" / "mixtures" / f"{mixture}.summary.json"
        if not file.is_file():
            continue
        for source, counts in read_json(file).get("sources", {}).items():
            pairs = sum(counts.get("qa", {}).values())
            licence = licences.get(source, "unknown")
            rows.append((mixture, source, licence, str(counts.get("images", "?")), str(pairs)))
    if not rows:
        return []
    header = ["mixture", "source", "licence", "images", "questions"]
    return ["## Data", table(header, list(dict.fromkeys(map(tuple, rows))), 3)]


def _source_licences(file: str | None) -> dict[str, str]:
    if file is None or not Path(file).is_file():
        return {}
    return {name: source.licence or "unknown" for name, source in read_sources(file).items()}


def _results(scores: Mapping[str, Mapping[str, Any]], scale: str) -> list[str]:
    if not scores:
        return []
    rows = []
    for name, score in scores.items():
        low, high = score.get("interval", (float("nan"),) * 2)
        rows.append(
            [
                name, str(score.get("judge", score.get("rule", "?"))),
                "yes" if score.get("official_data") else "no", f"{score['score']:.2f}",
                f"{low:.2f} to {high:.2f}", str(score.get("n", "?")),
            ]
        )  # fmt: skip
    header = ["benchmark", "read by", "official file", "score", "95 % interval", "questions"]
    return [
        "## Results", table(header, rows, 3),
        f"Percent; OCRBench out of 1000. {SCALE_NOTES.get(scale, '')}",
    ]  # fmt: skip


def _eval_result(name: str, score: Mapping[str, Any]) -> EvalResult:
    return EvalResult(
        task_type="image-text-to-text",
        dataset_type=name,
        dataset_name=name,
        metric_type=str(score.get("rule", "score")),
        metric_value=round(score["score"], 2),
    )
