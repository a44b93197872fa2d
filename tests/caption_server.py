"""What the captioner is tried on: small pictures with boxes, a server that plays a model, and a real one."""

from __future__ import annotations

import base64
import io
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from judge_server import Server
from PIL import Image, ImageDraw
from transformers.utils.import_utils import is_serve_available

from granvit.config.data import CaptionerSettings
from granvit.data.annotators.caption import Captioner
from granvit.data.records.records import Record, Region
from granvit.data.records.shards import Sample, ShardWriter

BOXES = ([20.0, 20.0, 120.0, 120.0], [150.0, 50.0, 290.0, 190.0])
needs_serve = pytest.mark.skipif(
    not is_serve_available(), reason="`transformers serve` needs the packages openai, fastapi and uvicorn"
)


def sample(number: int, boxes=BOXES, size=(300, 200), image: bytes | None = None) -> Sample:
    """A picture of its own with boxes; what the source said of them is "old"."""
    if image is None:
        picture = Image.new("RGB", size, (number * 37 % 255, 90, 255 - number * 20 % 255))
        for box in boxes:
            ImageDraw.Draw(picture).ellipse(box, fill=(255, number * 40 % 255, 0))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG")
        image = buffer.getvalue()
    regions = [Region(list(box), "old", 0.9) for box in boxes]
    record = Record(f"S__{number}", "S", "natural", *size, caption="old", regions=regions)
    return Sample(record, image, "jpg")


def write_shard(path: Path, samples: list[Sample]) -> Path:
    with ShardWriter(path) as shard:
        for each in samples:
            shard.write(each)
    return path


def settings(**changes) -> CaptionerSettings:
    values = {
        "backend": "server", "model": "m", "url": None, "max_region_words": 10, "region_tokens": 16,
        "caption_tokens": 24, "batch_size": 4, "concurrency": 3, "timeout": 30.0, "retries": 2,
        "max_wait": 5.0, "give_up_after": 6,
    }  # fmt: skip
    return CaptionerSettings(**(values | changes))


def captioner(
    folder: Path, captions=True, regions=True, log=None, filters=None, max_reject_share=1.0, **changes
) -> Captioner:
    """A captioner whose answers are kept in ``folder``."""
    answers = folder / "answers.jsonl"
    return Captioner(settings(**changes), captions, regions, answers, "cpu", log, filters, max_reject_share)


def about_region(request: dict) -> bool:
    return len(request["messages"][0]["content"]) == 3


def text_of(request: dict) -> str:
    return request["messages"][0]["content"][-1]["text"]


def images_of(request: dict) -> list[tuple[str, bytes]]:
    """Media type and bytes of each image that was sent."""
    found = []
    for part in request["messages"][0]["content"][:-1]:
        head, _, data = part["image_url"]["url"].partition(";base64,")
        found.append((head.removeprefix("data:"), base64.b64decode(data)))
    return found


def polite(request: dict) -> str:
    """An answer that is a caption."""
    return "A round thing." if about_region(request) else "Two round things on a plain ground."


@contextmanager
def playing(say=polite):
    """A server that answers as the test says, not by a model: for what a server may do wrong."""
    import threading

    running = Server()
    running.say = say
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()


@contextmanager
def serving(model: Path):
    """`transformers serve` with a checkpoint; the address up to and with /v1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--device", "cpu"]
    log = open(model / "serve.log", "wb")  # noqa: SIM115 (closed below)
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (model / "serve.log").read_text()
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                    break
            except requests.RequestException:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
        log.close()
