"""Predicting benchmarks, three questions an image, against `generate` of transformers.

Ours is what the rule predict_benchmarks runs: it streams a TSV, opens, encodes and reads each image once, and
answers in batches behind that prefix. `baseline` asks one question at a time with `generate`; `batched` gives
`generate` as many questions at once as ours gets, sorted by length. Both open and encode a question's image
for the question, as a plain loop does, but have the file's bytes at hand (ours pays for reading the TSV).
`ratio_batched_opened`: the same with all images opened and resized beforehand on both sides, so that only the
model's work is left.

Mini size: the stand-in encoder and LLM with a projector that has not learnt, or a trained model (`--model
results/mini/sft/sft-granvit/seed0/model`). All take turns in one process, and have to give the same answers
before anything is timed. Prints one JSON line last: `ratio` against one question at a time, `ratio_batched`
against batches. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch.nn.functional import pad

from granvit.config.loading import load_config
from granvit.data.records.images import decode_rgb
from granvit.device import pick_device, seed_everything
from granvit.evaluation.asks import Ask, collect_asks
from granvit.evaluation.benchmarks import Benchmark, find_benchmark, load_benchmarks
from granvit.evaluation.predict import WINDOW, Pictures, answer_file, answer_window
from granvit.evaluation.tsv_files import read_images
from granvit.miniature.benchmarks.render import CHOICE_BENCHMARKS, SHORT_BENCHMARKS
from granvit.miniature.benchmarks.rows import TEST, Letters, items, option_cells, write_tsv
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, feature_width
from granvit.models.projector import Projector

Asks = Mapping[Path, Sequence[Ask]]
Answers = dict[tuple[str, str], str]
Pixels = Callable[[str], torch.Tensor]

QUESTIONS = 3  # an image
ASKED = ("SEEDBench", "GQA", "DocVQA")  # a choice, a word, a line of text: as many questions of each


def write_questions(folder: Path, benchmarks: Sequence[Benchmark], images: int) -> None:
    """The miniature's own benchmarks, short."""
    for benchmark in benchmarks:
        name = benchmark.tsv.removesuffix(".tsv")
        families, per_image, *kinds = {**CHOICE_BENCHMARKS, **SHORT_BENCHMARKS}[name]
        assert per_image == QUESTIONS
        rows = []
        stream = items(name, families, QUESTIONS * images, TEST, per_image, *kinds)
        for index, (image, asked, _) in enumerate(stream):
            row = {"index": index, "image": image, "question": asked.question}
            if name in CHOICE_BENCHMARKS:
                options, letter = Letters(name).arrange(asked)
                row |= option_cells(options)
            rows.append(row)
        write_tsv(folder / benchmark.tsv, iter(rows))


def load_model(folder: str | None, device: torch.device) -> MLLM:
    if folder:
        return MLLM.load(Path(folder), device)
    config = load_config("mini")
    encoder, spec = load_encoder(config.encoders["SigLIP2"]), config.llms["Qwen2.5-1.5B"]
    llm = load_llm(spec, torch.float32)
    projector = Projector(feature_width(encoder, 0), llm.config.hidden_size)
    return MLLM(encoder, projector, llm, load_tokenizer(spec)).eval().to(device)


@torch.inference_mode()
def plain_generate(model: MLLM, asks: Asks, pixels: Pixels, batch_size: int) -> Answers:
    """Answers by transformers' `generate`, padded on the left, an image encoded for each question."""
    embed, chat, found = model.llm.get_input_embeddings(), model.chat, {}
    before = embed(torch.tensor(chat.before_image, device=model.device))
    for questions in asks.values():
        ordered = sorted(questions, key=lambda ask: len(ask.text))
        for start in range(0, len(ordered), batch_size):
            batch = ordered[start : start + batch_size]
            images = model.encode_images(torch.stack([pixels(ask.images[0]) for ask in batch]))
            texts = [embed(torch.tensor(chat.prompt(ask.text), device=model.device)) for ask in batch]
            rows = [torch.cat([before, image, text]) for image, text in zip(images, texts, strict=True)]
            longest = max(map(len, rows))
            empty = [longest - len(row) for row in rows]
            padded = [pad(row, (0, 0, n, 0)) for row, n in zip(rows, empty, strict=True)]
            mask = torch.tensor([[0] * n + [1] * (longest - n) for n in empty], device=model.device)
            ids = model.llm.generate(
                inputs_embeds=torch.stack(padded), attention_mask=mask,
                max_new_tokens=batch[0].max_new_tokens, do_sample=False,
                eos_token_id=model.end_ids, pad_token_id=model.end_ids[0],
            )  # fmt: skip
            decoded = [text.strip() for text in model.tokenizer.batch_decode(ids, skip_special_tokens=True)]
            found |= _keyed(batch, decoded)
    return found


def predictor(model: MLLM, asks: Asks, batch_size: int) -> Answers:
    """Answers by this project, from the files on."""
    found = {}
    for file, questions in asks.items():
        for batch, answers, _ in answer_file(model, file, questions, batch_size):
            found |= _keyed(batch, answers)
    return found


@torch.inference_mode()
def predictor_opened(
    model: MLLM, asks: Asks, data: dict[str, bytes], pixels: Pixels, batch_size: int
) -> Answers:
    """Answers by this project, from pixels on; ``data``: for questions that are asked again alone."""
    found, window = {}, WINDOW * batch_size
    for file, questions in asks.items():
        for start in range(0, len(questions), window):
            part = questions[start : start + window]
            pictures = Pictures(model, file, part)
            pictures.data = data
            pictures.pixels = {digest: pixels(digest) for ask in part for digest in ask.images}
            for batch, answers, _ in answer_window(pictures, part, batch_size):
                found |= _keyed(batch, answers)
    return found


def _keyed(asks: Sequence[Ask], answers: Sequence[str]) -> Answers:
    return {(ask.slug, ask.index): answer for ask, answer in zip(asks, answers, strict=True)}


def check_same_answers(ways: Sequence[Callable[[], Answers]]) -> None:
    """All have to answer alike, or different things would be timed; one in a hundred may fall otherwise,
    since `generate` decides near ties by rounding."""
    first, *others = (way() for way in ways)
    apart = {key for other in others for key in first if other[key] != first[key]}
    if len(apart) > len(first) / 100:
        sys.exit(f"error: {len(apart)} of {len(first)} answers differ: no fair comparison")


def measure(ways: Sequence[Callable[[], Answers]], questions: int, seconds: float) -> list[float]:
    """Questions per second of each way, taking turns until all together have run for so long."""
    spent, rounds = [0.0] * len(ways), 0
    while not rounds or sum(spent) < seconds:
        for number, way in enumerate(ways):
            begin = time.perf_counter()
            way()
            spent[number] += time.perf_counter() - begin
        rounds += 1
    return [rounds * questions / time_spent for time_spent in spent]


def compare(model: MLLM, images: int, batch_size: int, seconds: float) -> list[float]:
    """Questions per second: ours, one at a time, batched; ours and batched with images opened beforehand."""
    known = load_benchmarks()
    benchmarks = [find_benchmark(known, name) for name in ASKED]
    with tempfile.TemporaryDirectory() as folder:
        write_questions(Path(folder), benchmarks, images)
        asks = collect_asks(benchmarks, folder)
        data = {digest: picture for file in asks for digest, picture in read_images(file)}

        def open_image(digest: str) -> torch.Tensor:
            return model.preprocess(decode_rgb(data[digest]))

        opened = {digest: open_image(digest) for digest in data}.__getitem__
        ways = [
            lambda: predictor(model, asks, batch_size),
            lambda: plain_generate(model, asks, open_image, 1),
            lambda: plain_generate(model, asks, open_image, batch_size),
            lambda: predictor_opened(model, asks, data, opened, batch_size),
            lambda: plain_generate(model, asks, opened, batch_size),
        ]
        check_same_answers(ways)  # and the warm-up
        return measure(ways, sum(map(len, asks.values())), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="model folder of a run (default: stand-ins, projector untrained)")
    parser.add_argument(
        "--images", type=int, default=32, help=f"of each benchmark, {QUESTIONS} questions an image"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="questions at a time, ours and batched")
    parser.add_argument("--seconds", type=float, default=60, help="of measuring, all together")
    parser.add_argument("--threads", type=int, default=1, help="of the process (default: 1, as mini runs)")
    parser.add_argument("--device", default="cpu", help="auto | cpu | cuda | npu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seed_everything(0)
    model = load_model(arguments.model, pick_device(arguments.device))
    rates = compare(model, arguments.images, arguments.batch_size, arguments.seconds)
    ours, baseline, batched, ours_opened, batched_opened = (round(rate, 2) for rate in rates)
    result = {"benchmark": "predict", "ours": ours, "baseline": baseline, "unit": "questions/s"}
    result |= {"ratio": round(ours / baseline, 2), "batched": batched}
    result |= {"ratio_batched": round(ours / batched, 2)}
    result |= {"ratio_batched_opened": round(ours_opened / batched_opened, 2), "threads": arguments.threads}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
