"""Replies of a server, whole and broken: read within the limits, asked for again, or told to be none."""

from __future__ import annotations

import gzip
import json
import threading
import time

import judge_server
import pytest
from caption_server import playing, settings

from granvit.data.annotators.caption_backends import KEY_VARIABLE
from granvit.servers.endpoint import Endpoint, Unanswered
from granvit.servers.reply_cache import Cache, Reply

pauses = judge_server.pauses  # a fixture


@pytest.fixture
def server():
    with playing() as running:
        yield running


def ask(server, folder, **changes) -> Reply:
    """One question to the server, with no retry unless the changes say so."""
    values = settings(**{"url": server.url, "retries": 0, **changes})
    return Endpoint(values, Cache(folder / "cache.jsonl", ""), KEY_VARIABLE).ask("Who?", 0.0, 8)


def completion(content, end="stop") -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": end}]})


# How a body's end is told, and what then sends one blank of it.
framings = pytest.mark.parametrize(
    ("headers", "blank"),
    [({}, " "), ({"Content-Length": "100"}, " "), ({"Transfer-Encoding": "chunked"}, "1\r\n \r\n")],
    ids=["by closing", "by length", "in chunks"],
)


@framings
def test_a_reply_that_stops_in_the_middle_is_a_slow_one(server, tmp_path, headers, blank):
    over = threading.Event()

    def stall():
        yield blank
        over.wait(20)

    server.say = lambda request: (200, headers, stall())
    try:
        with pytest.raises(Unanswered, match=r"no reply within 0\.3 s"):
            ask(server, tmp_path, timeout=0.3)
    finally:
        over.set()


@framings
def test_a_reply_that_drips_is_waited_for_no_longer_than_the_limit(server, tmp_path, headers, blank):
    def drip():
        for _ in range(100):
            time.sleep(0.05)
            yield blank

    server.say = lambda request: (200, headers, drip())
    start = time.monotonic()
    with pytest.raises(Unanswered, match=r"no reply within 0\.3 s"):
        ask(server, tmp_path, timeout=0.3)
    assert time.monotonic() - start < 2.5  # of the 5 s that it takes


@pytest.mark.parametrize("length", [{}, {"Content-Length": str(64 << 20)}], ids=["by closing", "by length"])
def test_a_reply_without_measure_is_not_read_to_its_end(server, tmp_path, length):
    sent = []

    def flood():
        for _ in range(64):
            sent.append(1)
            yield "x" * (1 << 20)

    server.say = lambda request: (200, length, flood())
    with pytest.raises(Unanswered, match="not a chat completion: 'xxx"):
        ask(server, tmp_path)
    assert len(sent) < 32  # one MiB is read, and the system may hold some more


@pytest.mark.parametrize("length", [False, True])
def test_a_compressed_reply_is_read(server, tmp_path, length):
    body = gzip.compress(completion("A dog. " * 30_000).encode())
    headers = {"Content-Encoding": "gzip"} | ({"Content-Length": str(len(body))} if length else {})
    server.say = lambda request: (200, headers, [body])
    assert ask(server, tmp_path).text == ("A dog. " * 30_000).strip()


@pytest.mark.parametrize(
    "headers",
    [{"Content-Length": "1000"}, {"Transfer-Encoding": "chunked"}, {"Content-Encoding": "gzip"}],
    ids=["cut short", "no chunks", "no gzip"],
)
def test_a_reply_that_breaks_is_tried_again(server, tmp_path, pauses, headers):
    answers = iter([(200, headers, completion("A dog.")), "A cat."])
    server.say = lambda request: next(answers)
    assert ask(server, tmp_path, retries=1).text == "A cat." and len(pauses) == 1


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("0", [0.5, 1, 2, 4]), ("-3", [0.5, 1, 2, 4]), ("nan", [0.5, 1, 2, 4]), ("1.5", [1.5, 1.5, 2, 4])]
    + [("Wed, 21 Oct 2015 07:28:00 GMT", [0.5, 1, 2, 4])],
)
def test_a_server_that_asks_for_less_waiting_than_we_would_do_is_not_asked_faster(
    server, tmp_path, pauses, monkeypatch, asked, waited
):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    server.say = lambda request: (429, {"Retry-After": asked}, "")
    with pytest.raises(Unanswered, match="HTTP 429"):
        ask(server, tmp_path, retries=4)
    assert pauses == waited


THOUGHT = [{"type": "thinking", "thinking": "Hm."}]


def test_the_parts_of_a_reply_are_joined(server, tmp_path):
    parts = [*THOUGHT, {"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]
    server.say = lambda request: (200, {}, completion(parts, "length"))
    assert ask(server, tmp_path) == Reply("A dog.", cut_off=True)


@pytest.mark.parametrize("content", [["A dog."], [{"type": "text"}], [{"type": "text", "text": None}]])
def test_parts_of_another_kind_are_no_reply(server, tmp_path, content):
    server.say = lambda request: (200, {}, completion(content))
    with pytest.raises(Unanswered, match="not a chat completion"):
        ask(server, tmp_path)


@pytest.mark.parametrize(
    ("content", "end", "requests"),
    [(None, "length", 1), (None, "content_filter", 1), (THOUGHT, "length", 1), (None, "stop", 3)]
    + [(None, None, 3), (None, [], 3), ([], "stop", 3)],
)
def test_a_reply_without_text_is_asked_for_again_unless_the_model_itself_ended_so(
    server, tmp_path, pauses, content, end, requests
):
    server.say = lambda request: (200, {}, completion(content, end))
    with pytest.raises(Unanswered, match="a chat completion without text"):
        ask(server, tmp_path, retries=2)
    assert len(server.requests) == requests
