"""Which questions a captioning server is asked: each once, also after a kill, and no more at a time than
allowed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from caption_server import about_region, captioner, images_of, playing, polite, sample, write_shard
from judge_server import Crowd


@pytest.fixture
def server():
    with playing() as running:
        yield running


def asked(server) -> Counter:
    """How often each question came: its text and its images."""
    return Counter(json.dumps(request["messages"]) for request in server.requests)


def test_a_polite_server_is_asked_once_for_each_caption_and_region(server, tmp_path):
    results = captioner(tmp_path, url=server.url).annotate([sample(i) for i in range(5)])
    assert [result.record.caption for result in results] == ["Two round things on a plain ground."] * 5
    assert all([r.text for r in result.record.regions] == ["A round thing."] * 2 for result in results)
    assert len(server.requests) == 15 and set(asked(server).values()) == {1}
    assert {(r["temperature"], r["max_tokens"]) for r in server.requests if about_region(r)} == {(0.0, 16)}


def test_two_regions_with_one_box_are_asked_about_once(server, tmp_path):
    box = [20.0, 20.0, 120.0, 120.0]
    result = captioner(tmp_path, url=server.url).annotate([sample(0, boxes=[box, box, box])])[0]
    assert [region.text for region in result.record.regions] == ["A round thing."] * 3
    assert len(server.requests) == 2


def test_one_image_under_two_keys_is_asked_about_once(server, tmp_path):
    first, second = sample(1), sample(1)
    second.record.key = "S__copy"
    results = captioner(tmp_path, url=server.url).annotate([first, second])
    assert len(server.requests) == 3 and results[0].record.regions == results[1].record.regions


@pytest.mark.parametrize(
    ("parts", "questions", "caption", "text"),
    [
        ((True, False), 1, "Two round things on a plain ground.", "old"),
        ((False, True), 2, "old", "A round thing."),
    ],
)
def test_only_what_the_source_wants_is_asked_for(server, tmp_path, parts, questions, caption, text):
    result = captioner(tmp_path, *parts, url=server.url).annotate([sample(0)])[0]
    assert len(server.requests) == questions and result.record.caption == caption
    assert {region.text for region in result.record.regions} == {text}


@pytest.mark.parametrize("change", [{"model": "n"}, {"region_tokens": 9}, {"max_region_words": 7}])
def test_answers_of_other_settings_are_not_taken_over(server, tmp_path, change):
    captioner(tmp_path, False, True, url=server.url).annotate([sample(0)])
    captioner(tmp_path, False, True, url=server.url, **change).annotate([sample(0)])
    assert len(server.requests) == 4


def test_never_more_questions_at_once_than_allowed(server, tmp_path):
    server.say = crowd = Crowd(polite)
    captioner(tmp_path, url=server.url, concurrency=2).annotate([sample(i) for i in range(6)])
    assert crowd.most == 2


JOB = """
import sys
from pathlib import Path
from caption_server import captioner
from granvit.data.annotators.annotate import annotate_shard
folder, url = Path(sys.argv[1]), sys.argv[2]
out = [folder / name for name in ("0.jsonl", "0.rejects.csv", "0.counts.csv")]
annotators = [captioner(folder, url=url, concurrency=1)]
annotate_shard(folder / "0.tar", *out, annotators, folder / "journal.jsonl")
"""


def start_job(folder: Path, url: str) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(folder), url], env={**os.environ, "PYTHONPATH": path}
    )


def test_no_question_is_asked_twice_after_a_kill_and_the_bytes_are_the_same(tmp_path):
    def say(request):
        return f"A thing number {sum(map(len, images_of(request)[-1]))}."

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
        write_shard(folder / "0.tar", [sample(i) for i in range(6)])  # batches of four images
    job: list[subprocess.Popen] = []

    def kill_in_between(request):
        if len(server.requests) == 8:
            job[0].send_signal(signal.SIGKILL)
        return say(request)

    with playing(say) as server:
        assert start_job(whole, server.url).wait() == 0
        server.requests.clear()
        server.say = kill_in_between
        job.append(start_job(torn, server.url))
        assert job[0].wait() == -signal.SIGKILL
        assert not (torn / "0.jsonl").exists() and len(server.requests) == 8
        server.say = say
        assert start_job(torn, server.url).wait() == 0
    counts = sorted(asked(server).values())
    assert counts == [1] * 17 + [2]  # the one whose answer no one was left to hear
    for name in ("0.jsonl", "0.rejects.csv", "0.counts.csv"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes()
