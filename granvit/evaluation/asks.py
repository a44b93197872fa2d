"""What a model is asked: every question of every benchmark, as text and pictures, and who asks which."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granvit.config import steps
from granvit.config.base import PositiveInt, Strict
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, read_questions
from granvit.evaluation.prompts import model_text
from granvit.evaluation.tsv_files import Question
from granvit.evaluation.units import first_units


@dataclass(frozen=True)
class Ask:
    """One question as the model gets it: its text and the digests of its images, in order."""

    slug: str
    index: str
    text: str
    images: tuple[str, ...]
    max_new_tokens: int


class PredictionJob(Strict):
    """One model's answers to some benchmarks; a JSON file can hold it.

    ``model_dir``: a finished run's model folder; ``data_dir``: the TSV files; ``out_dir``: for
    ``{slug}.jsonl``; ``shuffle_images``: show each question another image of its benchmark, so that what the
    model scores is chance level; ``limit``: only so many questions a benchmark (`first_units`); ``reuse``:
    finished answers of the same model to the same questions stay; ``log``: a file for progress.
    """

    model_dir: Path
    benchmarks: list[Benchmark]
    data_dir: Path
    out_dir: Path
    batch_size: PositiveInt
    device: str
    shuffle_images: bool = False
    limit: PositiveInt | None = None
    reuse: bool = True
    log: Path | None = None

    def asks(self) -> dict[Path, list[Ask]]:
        """All questions by TSV file. Raises GranvitError as `collect_asks` does."""
        return collect_asks(self.benchmarks, self.data_dir, self.shuffle_images, self.limit)


def collect_asks(
    benchmarks: Sequence[Benchmark],
    data_dir: str | Path,
    shuffle_images: bool = False,
    limit: int | None = None,
) -> dict[Path, list[Ask]]:
    """All questions by TSV file, in file order. RefCOCO, RefCOCO+ and RefCOCOg are views of one file:
    together, so that they share encoded images. ``limit``: as in `first_units`.

    Raises GranvitError where a file cannot be read, has no question for its benchmark, too few images to
    shuffle, or a question about an image that its row lacks.
    """
    asks: dict[Path, list[Ask]] = {}
    for benchmark in benchmarks:
        path, questions = Path(data_dir) / benchmark.tsv, read_questions(benchmark, data_dir)
        other = shuffled(path, questions) if shuffle_images else {}
        for question in first_units(benchmark.rule, questions, limit):
            images = tuple(other.get(digest, digest) for digest in question.images)
            try:
                text = model_text(question.cells, benchmark.prompt, len(images))
            except GranvitError as error:
                raise GranvitError(f"{path}: {error}") from None
            ask = Ask(benchmark.slug, question.index, text, images, benchmark.max_new_tokens)
            asks.setdefault(path, []).append(ask)
    return asks


def shuffled(path: Path, questions: Sequence[Question]) -> dict[str, str]:
    """Another image for each image of a benchmark: the next one on a ring in hash order, so none keeps its
    own. Raises GranvitError where there is one image only.
    """
    digests = {digest for question in questions for digest in question.images}
    if len(digests) < 2:
        raise GranvitError(f"{path}: one image only; shuffling images for the chance row needs two")
    ring = sorted(digests, key=lambda digest: hashlib.sha256(f"shuffle {digest}".encode()).hexdigest())
    return dict(zip(ring, ring[1:] + ring[:1], strict=True))


def shard_of(ask: Ask, shards: int) -> int:
    """Which of ``shards`` processes asks a question; all questions on the same pictures stay together."""
    return int(hashlib.sha256("".join(ask.images).encode()).hexdigest(), 16) % shards


def fingerprints(model_dir: Path, asks: Iterable[Ask]) -> dict[str, str]:
    """Slug -> eight digits that stand for a model's files, for all that a benchmark asks of it, and for the
    version of the code that asks. Raises GranvitError where the folder holds no file.
    """
    model = hashlib.sha256(f"predict {steps.version('predict')}".encode())
    if not any(path.is_file() for path in model_dir.rglob("*")):
        raise GranvitError(
            f"{model_dir}: no model there; expected results/{{scale}}/sft/{{recipe}}/seed{{N}}/model"
        )
    for path in sorted(path for path in model_dir.rglob("*") if path.is_file()):
        model.update(str(path.relative_to(model_dir)).encode())
        with open(path, "rb") as file:
            model.update(hashlib.file_digest(file, "sha256").digest())
    digests: dict[str, Any] = {}
    for ask in asks:
        digests.setdefault(ask.slug, model.copy()).update(repr(ask).encode())
    return {slug: digest.hexdigest()[:8] for slug, digest in digests.items()}


def cut_batches(asks: Iterable[Ask], batch_size: int) -> list[list[Ask]]:
    """Batches of at most ``batch_size`` questions, alike in number of images and allowed answer length, the
    questions on one image side by side and images with texts of similar length together; the order follows
    from the content alone.
    """

    def alike(group: list[Ask]) -> tuple[int, int]:
        return len(group[0].images), group[0].max_new_tokens

    groups: dict[tuple, list[Ask]] = {}
    for ask in asks:
        groups.setdefault((ask.images, ask.max_new_tokens), []).append(ask)
    for group in groups.values():
        group.sort(key=lambda ask: (len(ask.text), ask.slug, ask.index))
    ordered = sorted(groups.values(), key=lambda group: (*alike(group), len(group[-1].text), group[0].images))
    batches = []
    for _, members in itertools.groupby(ordered, key=alike):
        flat = list(itertools.chain.from_iterable(members))
        batches += [flat[start : start + batch_size] for start in range(0, len(flat), batch_size)]
    return batches
