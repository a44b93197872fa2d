"""The work of each job before it runs: images, tokens, FLOPs and bytes. From files where they are there, else
from the configuration; what was only assumed is said once, in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from granvit.config.plan import PlanFile
from granvit.config.recipes import Recipe
from granvit.data.sources.table import SourceSpec
from granvit.graph import data, runs
from granvit.graph.scale import Scale
from granvit.planning.jobs import Job
from granvit.planning.shapes import PREFIX, Shapes
from granvit.training.ledger import ImageTokens

TRAINING = {rule: stage for stage, rule in runs.TRAINING_RULES.items()}
ANSWERING = ("predict_benchmarks", "predict_shuffled")
SCORING = ("score_benchmarks", "score_shuffled")
ANNOTATING = ("annotate_regions", "annotate_on_accelerator")
FP32 = 4  # bytes of a weight as a run saves it
MB = 1e6


@dataclass(frozen=True)
class Amounts:
    """``images``: looked at, each as often as it is; ``tokens``: in front of the language model; ``size``:
    what the job's time grows with (FLOPs of a training, else images or questions; 0: it grows with nothing);
    ``bytes``: of its outputs."""

    images: float = 0
    tokens: float = 0
    flops: float = 0
    size: float = 0
    bytes: float = 0


class Estimates:
    """The amounts of jobs at one scale. ``assumed``: what was taken from the configuration, in words."""

    def __init__(self, scale: Scale, plan: PlanFile) -> None:
        self.scale, self.plan = scale, plan
        self.assumed: dict[str, None] = {}
        self._shapes = Shapes(scale.config.encoders, scale.config.llms)
        self._mixtures: dict[str, tuple[float, float, float]] = {}

    def of(self, job: Job) -> Amounts:
        """Raises GranvitError where a model's sizes are not known."""
        if job.rule in TRAINING:
            return self._training(self.scale.recipe(job.wildcards["recipe"]))
        if job.rule in ANSWERING:
            return self._answering(self.scale.recipe(job.wildcards["recipe"]))
        if job.rule in SCORING:
            return Amounts(size=self.questions, bytes=self.questions * 2 * self.plan.bytes_per_question)
        images = self._images(job)
        return Amounts(images=images, size=images, bytes=images * self.plan.bytes_per_image.get(job.rule, 0))

    def parameters(self, recipe: Recipe) -> int:
        return self._shapes.shape(recipe).parameters

    @cached_property
    def questions(self) -> float:
        """Of all benchmarks."""
        rendered = self.scale.config.data.rendered_questions
        if rendered:
            files = (Path(benchmark.tsv).stem for benchmark in runs.load_benchmarks())
            return sum(rendered.get(file, rendered["each"]) for file in files)
        self._assume(f"{self.plan.questions:,} questions of all benchmarks")
        return self.plan.questions

    def source_images(self, source: SourceSpec) -> float:
        """Of a whole source."""
        if source.name in self.scale.config.data.rendered_images:
            return data.rendered_images(self.scale, source.name)
        if source.reported_images:
            self._assume("images and regions of each source as the paper's Tables 6 and 7 print them")
            return source.reported_images
        if source.name in self.plan.images:
            self._assume(f"{self.plan.images[source.name]:,} images of {source.name}")
            return self.plan.images[source.name]
        self._assume(f"no images of {source.name}: neither its row nor config/plan.yaml says how many")
        return 0

    def _images(self, job: Job) -> float:
        """That a job of the data looks at."""
        if "mixture" in job.wildcards:
            return self._mixture(job.wildcards["mixture"])[0]
        if "source" in job.wildcards:
            source = self.scale.source(job.wildcards["source"])
            return self.source_images(source) / (source.shards if "shard" in job.wildcards else 1)
        if job.rule == "find_contamination":
            return sum(map(self.source_images, data.all_sources(self.scale)))
        return 0

    def _regions(self, source: SourceSpec) -> float:
        if source.reported_regions:
            return source.reported_regions
        if source.name in self.plan.regions:
            self._assume(f"{self.plan.regions[source.name]:,} regions of {source.name}")
            return self.plan.regions[source.name]
        if data.rendered_folder(self.scale, source.name):
            self._assume(f"{self.plan.regions_per_image} regions an image of the miniature")
        return self.source_images(source) * self.plan.regions_per_image

    def _mixture(self, name: str) -> tuple[float, float, float]:
        """Images of a mixture, its regions, and its global captions."""
        if name not in self._mixtures:
            self._mixtures[name] = self._counted(name) or self._expected(name)
        return self._mixtures[name]

    def _counted(self, name: str) -> tuple[float, float, float] | None:
        file = Path(f"results/{self.scale.name}/data/mixtures/{name}.summary.json")
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return found["images"], found["regions"], found["qa"].get("global_caption", 0)
        except (OSError, ValueError, KeyError):
            return None

    def _expected(self, name: str) -> tuple[float, float, float]:
        settings, scale = data.mixture_settings(self.scale, name), self.scale
        kept = settings["heldout_share"] if name == "heldout" else 1 - settings["heldout_share"]
        if settings["kind"] == "conversations":
            use = data.MIXTURE_USES[name]
            images = sum(self.source_images(s) for s in data.all_sources(scale) if s.use == use)
            return images * kept, 0, 0
        by_type = {"natural": [0.0, 0.0], "ocr": [0.0, 0.0]}
        for source in data.pretraining_sources(scale):
            share = settings.get("ocr_region_share", 1) if source.data_type == "ocr" else 1
            by_type[source.data_type][0] += self.source_images(source) * share * kept
            by_type[source.data_type][1] += self._regions(source) * share * kept
        images, regions = (sum(pair) for pair in zip(*by_type.values(), strict=True))
        budget = settings.get("regions")
        taken = min(1.0, budget / regions) if budget and regions else 1.0
        return images * taken, regions * taken, by_type["natural"][0] * taken

    def _tokens(self, recipe: Recipe) -> ImageTokens:
        """Of an average image, the template's not among them."""
        assumed = self.plan.tokens
        self._assume("tokens of questions and answers (config/plan.yaml)")
        images, regions, captions = self._mixture(recipe.mixture)
        settings = data.mixture_settings(self.scale, recipe.mixture)
        if settings["kind"] == "conversations":
            ask, answer = assumed["projector" if recipe.mixture == "projector" else "instruction"]
            return ImageTokens(ask + answer, answer, [0], 1)
        tasks = len(settings.get("tasks", [])) - 1 if "tasks" in settings else 2
        each, caption = (regions / images if images else 0), (captions / images if images else 0)
        text = caption * sum(assumed["caption"]) + each * tasks * sum(assumed["region"])
        said = caption * assumed["caption"][1] + each * tasks * assumed["region"][1]
        return ImageTokens(text, said, [round(each)], each + caption)

    def _training(self, recipe: Recipe) -> Amounts:
        count = self._tokens(recipe)
        images = self._mixture(recipe.mixture)[0] * recipe.epochs
        if recipe.tokens_of:  # as many supervised tokens as of the other mixture
            other = self._tokens(recipe.model_copy(update={"mixture": recipe.tokens_of, "tokens_of": None}))
            ratio = other.supervised / count.supervised if count.supervised else 1
            images = self._mixture(recipe.tokens_of)[0] * recipe.epochs * ratio
        flops = images * self._shapes.flops(recipe, count)["total"]
        shape = self._shapes.shape(recipe)
        read = 0 if recipe.contrastive else PREFIX + shape.image_tokens + count.text
        return Amounts(images, images * read, flops, flops, shape.parameters * FP32)

    def _answering(self, recipe: Recipe) -> Amounts:
        asked, shape = self.questions, self._shapes.shape(recipe)
        flops = asked * self._shapes.answer_flops(recipe)
        tokens = asked * (shape.image_tokens + PREFIX)
        return Amounts(asked, tokens, flops, flops, asked * self.plan.bytes_per_question)

    def _assume(self, words: str) -> None:
        self.assumed[words] = None


def folder_bytes(path: str) -> int:
    """Of a file, or of all files of a folder; 0 where there is none."""
    place = Path(path)
    files = [place] if place.is_file() else place.rglob("*") if place.is_dir() else []
    return sum(file.stat().st_size for file in files if file.is_file())


def written(job: Job, size: Callable[[str], int] = folder_bytes) -> int:
    """Bytes of a job's outputs that are there."""
    return sum(size(output) for output in job.outputs)
