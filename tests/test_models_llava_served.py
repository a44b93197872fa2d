"""An exported model behind a real server, asked through this project's own endpoint client."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from caption_server import needs_serve, serving
from factories import make_encoder
from PIL import Image
from test_models_llava import FORMS, WORDS, make_model

from granvit.config.judge import JudgeSettings
from granvit.models.llava import save_llava
from granvit.servers.endpoint import Endpoint
from granvit.servers.reply_cache import Cache


def as_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.mark.slow
@needs_serve
def test_a_real_server_gives_our_answers(tmp_path: Path):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder", "clip"), "llama")
    save_llava(model, tmp_path / "out")
    pixels = np.random.default_rng(2).integers(0, 256, (8, 40, 64, 3), dtype=np.uint8)
    pictures = [Image.fromarray(values) for values in pixels]
    questions = [FORMS[n % 4].format(WORDS[n % 6]) for n in range(8)]
    images = model.encode_images(torch.stack([model.preprocess(picture) for picture in pictures]))
    expected = model.answer(images, questions, 8)
    with serving(tmp_path / "out") as url:
        settings = JudgeSettings(url=url, model=str(tmp_path / "out"), retries=0)
        endpoint = Endpoint(settings, Cache(tmp_path / "cache.jsonl", "remove it"), "NO_KEY")
        answers = []
        for picture, question in zip(pictures, questions, strict=True):
            image = {"type": "image_url", "image_url": {"url": as_url(picture)}}
            answers.append(endpoint.ask([image, {"type": "text", "text": question}], 0.0, 8).text.strip())
    assert answers == expected and len(set(answers)) > 4
