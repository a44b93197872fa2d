"""A real HTTP server that plays the judge, and three MMVet questions to put to it."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from benchmark_world import picture, write_rows

from granvit.config.judge import JudgeSettings
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.judge import make_judge
from granvit.evaluation.score import score


class Crowd:
    """Replies as ``say`` does, after a moment in which others may come; ``most``: requests at once so far."""

    def __init__(self, say) -> None:
        self.say, self.now, self.most, self._lock = say, 0, 0, threading.Lock()

    def __call__(self, request: dict):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self._lock:
            self.now -= 1
        return self.say(request)


class Server(ThreadingHTTPServer):
    """An endpoint that answers as the test says; keeps the requests that it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.say = lambda request: "1.0"  # text, or (status, headers, body: text, or pieces of text or bytes)

    def prompts(self) -> list[str]:
        return [request["messages"][0]["content"] for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        self.server.keys.append(self.headers.get("Authorization"))
        said = self.server.say(request)
        if isinstance(said, str):
            said = 200, {}, json.dumps({"choices": [{"message": {"content": said}}]})
        status, headers, body = said
        self.send_response(status if self.path == "/v1/chat/completions" else 404)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in [body] if isinstance(body, str) else body:
            try:
                self.wfile.write(piece.encode() if isinstance(piece, str) else piece)
            except OSError:
                return  # the client has hung up

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def pauses(monkeypatch):
    """Pauses before retries, taken down instead of waited for."""
    taken: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=taken.append))
    return taken


def benchmark(rule, name="Toy", prompt="plain"):
    return Benchmark(name, f"{name}.tsv", "", (), rule, prompt, "VQA", 8, "")


def answer(folder, rows, answers, name="Toy"):
    """A benchmark file and the answers to it; the answers' path."""
    rows = [{"index": i, "image": picture(i), "question": f"q{i}?", **row} for i, row in enumerate(rows)]
    write_rows(folder / f"{name}.tsv", rows)
    path = folder / f"{name}.jsonl"
    lines = [json.dumps({"index": str(i), "prediction": text}) for i, text in enumerate(answers)]
    path.write_text("\n".join(lines) + "\n")
    return path


def judge_at(server, folder, **changes):
    settings = {"url": server.url, "model": "m", "retries": 2, "concurrency": 3, "give_up_after": 3}
    return make_judge(JudgeSettings(**settings, cache=str(folder / "cache.jsonl")).model_copy(update=changes))


@pytest.fixture
def mmvet(tmp_path):
    """Three MMVet questions, scored with a judge: the score file's content and the lines said."""
    path = answer(tmp_path, [{"answer": "4<AND>red"}] * 3, ["4", "a red thing", "4 and red"])

    def run(judge):
        lines = []
        return score(path, benchmark("mmvet_contains"), tmp_path, judge, lines.append), lines

    return run
