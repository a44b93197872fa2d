"""What an image costs a model whose weights need not be here: its parts by their sizes, on meta tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from granvit.config.recipes import Recipe
from granvit.errors import GranvitError
from granvit.models.encoders import FAMILIES, Encoder
from granvit.models.key_layouts import find_layout, native_config
from granvit.models.tiling import SHUFFLE, tile_side
from granvit.training.cost import forward_cost
from granvit.training.ledger import ImageTokens, image_flops

PUBLISHED = Path("config/published")  # what the models' authors state; tests hold the classes against it
PREFIX = 36  # tokens of the chat's template before and behind an image, in Qwen2.5's
FEW, MORE = 2, 3  # layers that are counted; all layers of a part cost the same


@dataclass(frozen=True)
class Shape:
    """``image_tokens``: that the language model reads of an image; ``parameters``: of all parts."""

    image_tokens: int
    parameters: int


@cache
def _facts() -> dict[str, dict[str, Any]]:
    """The published config.json of each checkpoint, by its hub id."""
    read = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(PUBLISHED.glob("*.json"))]
    return {facts["checkpoint"]: facts["config"] for facts in read}


def _config(path: str) -> dict[str, Any]:
    """config.json of a local folder or of a published checkpoint. Raises GranvitError without either."""
    file = Path(path) / "config.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    if path not in _facts():
        raise GranvitError(
            f"plan: the sizes of '{path}' are not known: it is no folder here, and {PUBLISHED} has no file "
            "of it; download it, or add its config.json there"
        )
    return _facts()[path]


def _with_layers(config: Any, layers: int | None) -> Any:
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


def _encoder(path: str, spec: Any, layers: int | None) -> Encoder:
    content = _config(path)
    layout = find_layout(content)
    native = native_config(layout, content, path) if layout else AutoConfig.for_model(**content)
    config = _with_layers(getattr(native, "vision_config", native), layers)
    with torch.device("meta"):
        return Encoder(FAMILIES[content["model_type"]].model(config), FAMILIES[content["model_type"]], spec)


def _llm(path: str, layers: int | None) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(_with_layers(AutoConfig.for_model(**_config(path)), layers))


class Shapes:
    """The models of some recipes, and what an image costs each. ``encoders, llms``: a scale's lists."""

    def __init__(self, encoders: dict[str, Any], llms: dict[str, Any]) -> None:
        self._encoders, self._llms = encoders, llms
        self._counted: dict[tuple, dict[str, float]] = {}
        self._models: dict[tuple, Any] = {}

    def shape(self, recipe: Recipe) -> Shape:
        """Of a recipe's whole model."""
        model = self._model(recipe, None)
        count = sum(p.numel() for part in (model.encoder, model.llm) for p in part.parameters())
        into, out = model.projector.input_size, model.projector.output_size
        return Shape(model.image_tokens, count + into * out + out * out)

    def flops(self, recipe: Recipe, tokens: ImageTokens) -> dict[str, float]:
        """FLOPs of forward and backward of an average image, by part, and their ``total``."""
        distillation = recipe.distillation
        key = (*self._kind(recipe), recipe.stage, str(recipe.trains), bool(recipe.contrastive), str(tokens),
               distillation and (distillation.crop_size, distillation.regions_per_image))  # fmt: skip
        return self._count(key, recipe, lambda model: image_flops(recipe, tokens, PREFIX, model))

    def answer_flops(self, recipe: Recipe) -> float:
        """FLOPs of a forward pass over one image and a short question."""
        passes = (False, True)  # without the encoder, and with it

        def count(model: Any) -> dict[str, float]:
            without, whole = (float(forward_cost(model, with_encoder)["flops"]) for with_encoder in passes)
            return {"llm": without, "encoder": whole - without, "total": whole}

        return self._count((*self._kind(recipe), "answer"), recipe, count)["total"]

    def _count(self, key: tuple, recipe: Recipe, count: Any) -> dict[str, float]:
        """A count with few layers, and what each further one adds, times those that there are."""
        if key not in self._counted:
            few, more = (count(self._model(recipe, layers)) for layers in (FEW, MORE))
            depth = self._depth(recipe)
            found = {
                part: few[part] + (depth.get(part, FEW) - FEW) * (more[part] - few[part])
                for part in few
                if part != "total"
            }
            self._counted[key] = found | {"total": sum(found.values())}
        return self._counted[key]

    def _depth(self, recipe: Recipe) -> dict[str, int]:
        whole = self._model(recipe, None)
        seen = len(whole.encoder.layers)
        return {"encoder": seen, "teacher": seen, "llm": whole.llm.config.num_hidden_layers}

    def _kind(self, recipe: Recipe) -> tuple:
        return recipe.encoder, recipe.llm, recipe.tiles

    def _model(self, recipe: Recipe, layers: int | None) -> Any:
        """What `granvit.training.cost` looks at of an MLLM; ``layers``: of each part, None for all."""
        key = (*self._kind(recipe), layers)
        if key not in self._models:
            spec = self._encoders[recipe.encoder]
            encoder = _encoder(spec.path, spec, layers)
            llm = _llm(self._llms[recipe.llm].path, layers)
            views = 1 + tile_side(recipe.tiles) ** 2 if recipe.tiles else 1
            tokens, width = encoder.grid**2, encoder.width
            if recipe.tiles:
                tokens, width = views * tokens // SHUFFLE**2, width * SHUFFLE**2
            projector = SimpleNamespace(input_size=width, output_size=llm.config.hidden_size)
            self._models[key] = SimpleNamespace(
                encoder=encoder, projector=projector, llm=llm, image_tokens=tokens, views=views
            )
        return self._models[key]
