"""Ask one model all benchmarks: one load, every image encoded once, batched greedy answers, resumable.

Answers are appended to ``{slug}.{fingerprint}.partial`` and become ``{slug}.jsonl`` when all benchmarks are
complete, so that a job killed in its last minute keeps what it has. The fingerprint covers model, data and
questions: answers of another checkpoint are never resumed. Batches are cut from all questions, answered or
not, so that a resumed job computes exactly what an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch

from granvit.data.images import decode_rgb
from granvit.device import pick_device
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, Question, read_images, read_rows, select
from granvit.evaluation.prompts import model_text
from granvit.models.mllm import MLLM
from granvit.progress import Progress

WINDOW = 4  # image batches whose questions are sorted by length together: less padding for a little memory


@dataclass(frozen=True)
class Ask:
    """One question as the model gets it: its text and the digests of its images, in order."""

    slug: str
    index: str
    text: str
    images: tuple[str, ...]
    max_new_tokens: int


def predict(
    model_dir: str | Path,
    benchmarks: Sequence[Benchmark],
    data_dir: str | Path,
    out_dir: str | Path,
    batch_size: int,
    device: str,
    shuffle_images: bool = False,
    log: str | Path | None = None,
) -> None:
    """Write ``out_dir/{slug}.jsonl`` (``index``, ``prediction``) for every benchmark.

    ``shuffle_images`` shows each question another image of its benchmark: what the model scores then is
    chance level.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    asks = {path: _asks(path, views, shuffle_images) for path, views in _views_by_file(benchmarks, data_dir)}
    fingerprint = _fingerprint(Path(model_dir), list(itertools.chain.from_iterable(asks.values())))
    partial = {b.slug: out_dir / f"{b.slug}.{fingerprint}.partial" for b in benchmarks}
    answered = {name: read_partial(path) for name, path in partial.items()}

    total, done = sum(map(len, asks.values())), sum(map(len, answered.values()))
    progress = Progress(total, f"predict {out_dir.parent.name} {out_dir.name}", "questions", log, start=done)
    model = MLLM.load(Path(model_dir)).to(pick_device(device))
    files = {name: open(path, "a", encoding="utf-8") for name, path in partial.items()}  # noqa: SIM115
    try:
        for path, questions in asks.items():
            for batch, answers in _answer_file(model, path, questions, answered, batch_size):
                done += _write(files, batch, answers, answered)
                progress.update(done)
    finally:
        for file in files.values():
            file.close()
    for name, path in partial.items():
        os.replace(path, out_dir / f"{name}.jsonl")
        for stale in out_dir.glob(f"{name}.*.partial"):
            stale.unlink()


def _views_by_file(benchmarks: Sequence[Benchmark], data_dir: Path) -> Iterator[tuple[Path, list[Benchmark]]]:
    """RefCOCO, RefCOCO+ and RefCOCOg are views of one file: together, so that they share encoded images."""
    for tsv in dict.fromkeys(benchmark.tsv for benchmark in benchmarks):
        yield data_dir / tsv, [benchmark for benchmark in benchmarks if benchmark.tsv == tsv]


def _asks(path: Path, views: Sequence[Benchmark], shuffle_images: bool) -> list[Ask]:
    rows, asks = read_rows(path), []
    for benchmark in views:
        questions = select(benchmark, rows)
        if not questions:
            raise GranvitError(
                f"{path}: no question for {benchmark.name}; its splits or categories are not in the file"
            )
        other = shuffled(path, questions) if shuffle_images else {}
        for question in questions:
            images = tuple(other.get(digest, digest) for digest in question.images)
            text = model_text({"index": question.index, **question.cells}, benchmark.prompt)
            asks.append(Ask(benchmark.slug, question.index, text, images, benchmark.max_new_tokens))
    return asks


def shuffled(path: Path, questions: Sequence[Question]) -> dict[str, str]:
    """Another image for each image of a benchmark: the next one on a ring in hash order, so none keeps its
    own.
    """
    digests = {digest for question in questions for digest in question.images}
    if len(digests) < 2:
        raise GranvitError(f"{path}: one image only; shuffling images for the chance row needs two")
    ring = sorted(digests, key=lambda digest: hashlib.sha256(f"shuffle {digest}".encode()).hexdigest())
    return dict(zip(ring, ring[1:] + ring[:1], strict=True))


def _fingerprint(model_dir: Path, asks: Iterable[Ask]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in model_dir.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(model_dir)).encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for ask in asks:
        digest.update(repr(ask).encode())
    return digest.hexdigest()[:8]


def read_partial(path: Path) -> set[str]:
    """Indices answered in a partial file; a last line cut off by a kill is removed from it."""
    if not path.exists():
        return set()
    whole, _, rest = path.read_bytes().rpartition(b"\n")
    if rest:
        with open(path, "r+b") as file:
            file.truncate(len(whole) + bool(whole))
    return {json.loads(line)["index"] for line in whole.split(b"\n") if line}


def _write(
    files: dict[str, TextIO], batch: Sequence[Ask], answers: Sequence[str], answered: dict[str, set[str]]
) -> int:
    """Append the answers that are not there yet; returns how many."""
    new = 0
    for ask, answer in zip(batch, answers, strict=True):
        if ask.index not in answered[ask.slug]:
            files[ask.slug].write(
                json.dumps({"index": ask.index, "prediction": answer}, ensure_ascii=False) + "\n"
            )
            answered[ask.slug].add(ask.index)
            new += 1
    for name in {ask.slug for ask in batch}:
        files[name].flush()
    return new


@torch.inference_mode()
def _answer_file(
    model: MLLM, path: Path, asks: Sequence[Ask], answered: dict[str, set[str]], batch_size: int
) -> Iterator[tuple[list[Ask], list[str]]]:
    """Batches of one TSV's questions with their answers; batches that are wholly answered are left out."""
    needed = {digest for ask in asks for digest in ask.images}
    stream = ((digest, data) for digest, data in read_images(path) if digest in needed)
    waiting, features = list(asks), {}
    while window := list(itertools.islice(stream, WINDOW * batch_size)):
        seen = {digest for digest, _ in window}
        touched = [ask for ask in waiting if not seen.isdisjoint(ask.images)]
        if all(len(ask.images) == 1 and ask.index in answered[ask.slug] for ask in touched):
            waiting = [ask for ask in waiting if seen.isdisjoint(ask.images)]
            continue
        for start in range(0, len(window), batch_size):
            features |= _encode(model, path, window[start : start + batch_size], touched)
        ready = [ask for ask in touched if all(digest in features for digest in ask.images)]
        for batch in cut_batches(ready, batch_size):
            if any(ask.index not in answered[ask.slug] for ask in batch):
                images = torch.stack(
                    [torch.cat([features[digest] for digest in ask.images]) for ask in batch]
                )
                yield batch, model.answer(images, [ask.text for ask in batch], batch[0].max_new_tokens)
        waiting = [ask for ask in waiting if not all(digest in features for digest in ask.images)]
        still_needed = {digest for ask in waiting for digest in ask.images}
        features = {digest: value for digest, value in features.items() if digest in still_needed}


def _encode(
    model: MLLM, path: Path, pictures: Sequence[tuple[str, bytes]], asks: Sequence[Ask]
) -> dict[str, torch.Tensor]:
    """Embeddings (T, D) of a batch of pictures."""
    pixels = []
    for digest, data in pictures:
        try:
            pixels.append(model.preprocess(decode_rgb(data)))
        except Exception as error:  # Pillow's decoders raise many types on damaged bytes
            index = next(ask.index for ask in asks if digest in ask.images)
            raise GranvitError(
                f"{path}: question {index}: its image cannot be read ({error}); fetch the file again"
            ) from error
    return dict(
        zip([digest for digest, _ in pictures], model.encode_images(torch.stack(pixels)), strict=True)
    )


def cut_batches(asks: Iterable[Ask], batch_size: int) -> list[list[Ask]]:
    """Batches of questions alike in length, number of images and allowed answer length; order fixed by
    content.
    """

    def alike(ask: Ask) -> tuple[int, int]:
        return len(ask.images), ask.max_new_tokens

    ordered = sorted(asks, key=lambda ask: (*alike(ask), len(ask.text), ask.slug, ask.index))
    batches = []
    for _, group in itertools.groupby(ordered, key=alike):
        members = list(group)
        batches += [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
    return batches
