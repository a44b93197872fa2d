"""Ask one model all benchmarks: one load, every image encoded once, batched greedy answers, resumable.

An answer does not depend on the batch that it was made in, nor on the number of processes. Batches differ in
padding and in the order of sums, so logits differ in their last digits; that can change an answer only where
two tokens are nearly tied. Such an answer is thrown away, and its question is asked again all by itself,
which gives the same bits in every batch size.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from granvit.data.records.images import decode_rgb
from granvit.device import pick_device
from granvit.errors import GranvitError, reading
from granvit.evaluation.answer_files import AnswerFiles
from granvit.evaluation.asks import Ask, PredictionJob, cut_batches, fingerprints, shard_of
from granvit.evaluation.tsv_files import read_images
from granvit.models.mllm import MLLM
from granvit.progress import Progress

WINDOW = 4  # batches whose images are sorted together by length of text: less padding for a little memory
WINDOW_BYTES = 256 << 20  # of image files that wait for company
TIE = 1e-4  # of the largest logit; fp32 rounding moves the distance of two logits by about 1e-6 of it


def predict(job: PredictionJob, shard: int = 0, shards: int = 1) -> None:
    """Write ``{slug}.jsonl`` (``index``, ``prediction``) for every benchmark of a job, in the files' order.

    ``shard`` of ``shards`` answers its part only; ``launch.merge`` writes the files once all have. Raises
    GranvitError for questions or images that cannot be read.
    """
    asks = job.asks()
    everything = list(itertools.chain.from_iterable(asks.values()))
    files = AnswerFiles(job.out_dir, fingerprints(job.model_dir, everything), shard, shards, job.reuse)
    own = [ask for ask in everything if shard_of(ask, shards) == shard]
    todo = {ask for ask in own if not files.has(ask)}
    done, alone = len(own) - len(todo), 0
    label = f"predict {job.out_dir.parent.name} {job.out_dir.name}"
    label += f" shard {shard}/{shards}" if shards > 1 else ""
    progress = Progress(len(own), label, "questions", job.log, start=done, quiet=shard > 0)
    if todo:
        model = MLLM.load(job.model_dir, pick_device(job.device))
        with files:
            for path, questions in asks.items():
                mine = [ask for ask in questions if ask in todo]
                with reading(path):
                    for batch, answers, again in answer_file(model, path, mine, job.batch_size):
                        files.append(batch, answers)
                        done, alone = done + len(batch), alone + again
                        progress.update(done)
        progress.say(f"{label} | {alone} of {len(todo)} answers hung on a near tie and were asked for alone")
    else:
        progress.say(f"{label} | all {len(own)} questions are answered already; nothing was asked")
    if shards == 1:
        files.merge(everything)


class Pictures:
    """The pictures that questions wait for: bytes as they came, pixels from when all of a question's pictures
    are there, embeddings in their place from the first use to the last one."""

    def __init__(self, model: MLLM, path: Path, asks: Sequence[Ask]) -> None:
        self.model, self.path = model, path
        self.uses = Counter(digest for ask in asks for digest in ask.images)
        self.data: dict[str, bytes] = {}
        self.pixels: dict[str, torch.Tensor] = {}
        self.embeddings: dict[str, torch.Tensor] = {}

    def open(self, asks: Sequence[Ask]) -> None:
        """Decode and resize the pictures of ``asks``."""
        new = dict.fromkeys(d for ask in asks for d in ask.images)
        new = [digest for digest in new if digest not in self.pixels and digest not in self.embeddings]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # Pillow works outside Python's lock
            self.pixels |= zip(new, threads.map(lambda digest: self._pixels(digest, asks), new), strict=True)

    def encode(self, asks: Sequence[Ask], batch_size: int) -> None:
        """Encode the pictures of ``asks`` that are not encoded yet."""
        new = list(dict.fromkeys(d for ask in asks for d in ask.images if d not in self.embeddings))
        for start in range(0, len(new), batch_size):
            digests = new[start : start + batch_size]
            pixels = torch.stack([self.pixels.pop(digest) for digest in digests])
            self.embeddings |= zip(digests, self.model.encode_images(pixels), strict=True)

    def _pixels(self, digest: str, asks: Sequence[Ask]) -> torch.Tensor:
        try:
            return self.model.preprocess(decode_rgb(self.data[digest]))
        except Exception as error:  # Pillow's decoders raise many types on damaged bytes
            index = next(ask.index for ask in asks if digest in ask.images)
            raise GranvitError(
                f"{self.path}: question {index}: its image cannot be read ({error}); fetch the file again"
            ) from error

    def answer(self, batch: Sequence[Ask]) -> list[str | None]:
        """Answers to a batch; None where two tokens were too close to call."""
        shown = list(dict.fromkeys(ask.images for ask in batch))
        images = torch.stack([torch.cat([self.embeddings[d] for d in digests]) for digests in shown])
        owners = [shown.index(ask.images) for ask in batch]
        texts = [ask.text for ask in batch]
        return self.model.answer(images, texts, batch[0].max_new_tokens, owners, closest=TIE)

    def answer_alone(self, ask: Ask) -> str:
        """The answer that stands where batches could differ: nothing but this question is computed."""
        alone = [self.model.encode_images(self._pixels(digest, [ask])[None])[0] for digest in ask.images]
        return self.model.answer(torch.cat(alone)[None], [ask.text], ask.max_new_tokens)[0]

    def release(self, asks: Sequence[Ask]) -> None:
        """Forget the pictures that no other question needs."""
        for digest in (digest for ask in asks for digest in ask.images):
            self.uses[digest] -= 1
            if not self.uses[digest]:
                for kept in (self.data, self.pixels, self.embeddings):
                    kept.pop(digest, None)


@torch.inference_mode()
def answer_file(
    model: MLLM, path: Path, asks: Sequence[Ask], batch_size: int
) -> Iterator[tuple[list[Ask], list[str], int]]:
    """Batches of one TSV's questions, their answers, and how many of these were asked for alone."""
    pictures = Pictures(model, path, asks)
    windows = _windows(pictures, asks, WINDOW * batch_size)
    with ThreadPoolExecutor(1) as reader:  # the next images are read and opened while these are asked about
        coming = reader.submit(next, windows, None)
        while ready := coming.result():
            coming = reader.submit(next, windows, None)
            yield from answer_window(pictures, ready, batch_size)
            pictures.release(ready)


def answer_window(
    pictures: Pictures, asks: Sequence[Ask], batch_size: int
) -> Iterator[tuple[list[Ask], list[str], int]]:
    """The same for questions whose pictures are all there."""
    pictures.encode(asks, batch_size)
    for batch in cut_batches(asks, batch_size):
        answers = pictures.answer(batch)
        again = answers.count(None)
        answers = [
            pictures.answer_alone(ask) if answer is None else answer
            for ask, answer in zip(batch, answers, strict=True)
        ]
        yield batch, answers, again


def _windows(pictures: Pictures, asks: Sequence[Ask], size: int) -> Iterator[list[Ask]]:
    """Questions whose pictures have all been read and opened, about ``size`` at a time."""
    of_picture: dict[str, list[Ask]] = {}
    for ask in asks:
        for digest in set(ask.images):
            of_picture.setdefault(digest, []).append(ask)
    unseen = {ask: len(set(ask.images)) for ask in asks}
    ready, held = [], 0
    for digest, data in read_images(pictures.path, of_picture) if asks else []:
        pictures.data[digest] = data
        held += len(data)
        for ask in of_picture[digest]:
            unseen[ask] -= 1
            if not unseen[ask]:
                ready.append(ask)
        if ready and (len(ready) >= size or held >= WINDOW_BYTES):
            pictures.open(ready)
            yield ready
            ready, held = [], 0
    if ready:
        pictures.open(ready)
        yield ready
