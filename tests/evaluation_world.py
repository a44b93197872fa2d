"""Small benchmark files and models for tests of prediction."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import torch
from factories import make_encoder, make_llm
from PIL import Image

from granvit.evaluation.benchmarks import Benchmark
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM
from granvit.models.projector import Projector


def picture(colour, size: tuple[int, int] = (40, 40)) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def base64_picture(colour) -> str:
    return base64.b64encode(picture(colour)).decode()


def write_tsv(path: Path, rows: list[dict]) -> Path:
    """Rows as they are; cells that one lacks stay empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["\t".join(columns), *("\t".join(str(row.get(key, "")) for key in columns) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def toy_benchmark(name: str = "Toy", **changes) -> Benchmark:
    values = dict(
        name=name, tsv=f"{name}.tsv", split_prefix="", categories=(), rule="anls", prompt="plain",
        capability="VQA", max_new_tokens=8, md5="",
    )  # fmt: skip
    return Benchmark(**{**values, **changes})


def write_toy_questions(folder: Path, name: str, images: int, seed: int = 0) -> None:
    """``images`` pictures with one to four questions each, of several lengths, and a question on two."""
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(images):
        colour = tuple(torch.randint(0, 256, (3,), generator=draw).tolist())
        first = len(rows)
        for place in range(1 + number % 4):
            words = " ".join(["what", "is", "that", "thing"][: 1 + (number + place) % 4])
            question = f"{words} {number}-{place}?"
            image = first if place else base64_picture(colour)
            rows.append({"index": len(rows), "image": image, "question": question, "answer": "red"})
    two = f"['{base64_picture('red')}', '{base64_picture('blue')}']"
    rows.append({"index": len(rows), "image": two, "question": "which of both?", "answer": "red"})
    write_tsv(folder / f"{name}.tsv", rows)


def save_model(folder: Path) -> Path:
    """A model of random weights as a finished run leaves it.

    Fresh weights are so small that a model repeats its last token whatever it is shown; these are large
    enough that answers depend on image and question.
    """
    encoder, spec = load_encoder(make_encoder(folder / "encoder")), make_llm(folder / "llm", "llama")
    model = MLLM(encoder, Projector(32, 32), load_llm(spec), load_tokenizer(spec))
    torch.manual_seed(3)
    for part in (model.projector, model.llm):
        for parameter in part.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save(folder / "model")
    return folder / "model"
