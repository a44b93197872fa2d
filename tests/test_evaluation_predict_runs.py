"""One file of answers, however it was made: in batches of any size, by several processes, killed and resumed.
With a real model of random weights, on the CPU in fp32."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from evaluation_world import save_model, toy_benchmark, write_toy_questions

from granvit.errors import GranvitError
from granvit.evaluation import predict as prediction
from granvit.evaluation.asks import PredictionJob
from granvit.evaluation.launch import predict_on_devices, run_all
from granvit.evaluation.predict import predict
from granvit.models.mllm import MLLM

TESTS = Path(__file__).parent
NAMES = ("First", "Second")
BENCHMARKS = [toy_benchmark(name, max_new_tokens=12) for name in NAMES]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two benchmarks of 125 questions on 48 images each, and a model."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    for seed, name in enumerate(NAMES):
        write_toy_questions(folder / "data", name, images=48, seed=seed)
    save_model(folder)
    return folder


@pytest.fixture(scope="module")
def whole(world):
    """What one process answers eight at a time."""
    return run(world, world / "whole", 8)


def job(world, out, batch_size=8):
    return PredictionJob(
        model_dir=world / "model", benchmarks=BENCHMARKS, data_dir=world / "data", out_dir=out,
        batch_size=batch_size, device="cpu",
    )  # fmt: skip


def run(world, out, batch_size, processes=1):
    predict_on_devices(job(world, out, batch_size), processes)
    return content(out)


def content(out):
    expected = [*(f"{name}.jsonl" for name in NAMES), "fingerprints.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)
    return [(out / f"{name}.jsonl").read_bytes() for name in NAMES]


def test_the_models_answers_differ_by_image_and_question(whole):
    """Else nothing below could fail."""
    answers = [json.loads(line)["prediction"] for file in whole for line in file.splitlines()]
    assert len(answers) == 2 * 121 and len(set(answers)) > 100


def test_batches_of_any_size_give_the_same_file(world, whole, tmp_path):
    assert run(world, tmp_path / "1", 1) == whole
    assert run(world, tmp_path / "64", 64) == whole


@pytest.mark.ranks
def test_two_processes_give_the_file_of_one(world, whole, tmp_path):
    assert run(world, tmp_path / "two", 8, processes=2) == whole


def test_asking_everything_alone_changes_no_answer(world, whole, tmp_path, monkeypatch):
    """What decides near ties is the same greedy answer; here it decides all of them."""
    monkeypatch.setattr(prediction, "TIE", 10.0)
    predict(job(world, tmp_path / "out"))
    assert content(tmp_path / "out") == whole


def test_one_model_load_serves_all_benchmarks(world, tmp_path, monkeypatch):
    loads, load = [], MLLM.load
    monkeypatch.setattr(MLLM, "load", lambda *given: loads.append(given) or load(*given))
    run(world, tmp_path / "out", 64)
    assert len(loads) == 1


def start(world, out, log, processes):
    """Another process that answers two at a time, and writes down what it asks before it asks."""
    (out.parent / "job.json").write_text(job(world, out, 2).model_dump_json())
    command = [
        sys.executable,
        str(TESTS / "logged_prediction.py"),
        str(out.parent / "job.json"),
        str(processes),
    ]
    environment = {"PYTHONPATH": str(TESTS.parent), "ASKED": str(log), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env={**os.environ, **environment})


def answered(out):
    return [line for path in out.glob("*.partial") for line in path.read_bytes().splitlines(keepends=True)]


@pytest.mark.ranks
@pytest.mark.parametrize("processes", [1, 2])
def test_no_question_is_asked_twice_after_a_kill(world, whole, tmp_path, processes):
    out, log = tmp_path / "out", tmp_path / "asked"
    out.mkdir()
    process, enough, deadline = (
        start(world, out, log, processes),
        random.randrange(1, 200),
        time.monotonic() + 120,
    )
    while len(answered(out)) < enough:
        assert process.poll() is None and time.monotonic() < deadline, f"no {enough} answers in time"
        time.sleep(0.002)
    everyone = [process, *psutil.Process(process.pid).children(recursive=True)]
    for one in everyone:
        one.send_signal(signal.SIGKILL)
    psutil.wait_procs(everyone[1:], 30)
    process.wait()
    kept = {json.loads(line)["index"] for line in answered(out) if line.endswith(b"\n")}
    before = log.read_text().split()
    assert len(before) - len(answered(out)) <= 2 * processes + processes  # a batch of two each, torn lines
    assert start(world, out, log, processes).wait(300) == 0
    assert content(out) == whole
    after = log.read_text().split()[len(before) :]
    assert kept and len(before) + len(after) - 2 * 121 <= 3 * processes
    assert len(after) == len(set(after))


@pytest.mark.ranks
def test_ranks_end_with_the_process_that_started_them(world, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    process, deadline = start(world, out, tmp_path / "asked", 2), time.monotonic() + 120
    while not answered(out):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    ranks = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert len(ranks) == 2 and not psutil.wait_procs(ranks, 60)[1]


@pytest.mark.ranks
def test_a_process_that_fails_is_named_and_ends_the_others(world, tmp_path):
    broken = job(world, tmp_path / "out").model_copy(update={"model_dir": str(tmp_path)})
    with pytest.raises(GranvitError, match="process . of 2 ended with code 1"):
        predict_on_devices(broken, 2)


def test_the_process_that_failed_is_named_not_one_that_was_ended_for_it():
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    failing = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(GranvitError, match="process 1 of 2 ended with code 3"):
        run_all([sleeping, failing])
    assert sleeping.returncode == -signal.SIGTERM


def test_questions_on_one_image_share_its_prefix_without_a_change(world):
    model = MLLM.load(world / "model")
    torch.manual_seed(0)
    images = model.encode_images(torch.rand(2, 3, 32, 32))
    questions, owners = ["What?", "Describe the red square at [0.1, 0.25].", "Where?", "What?"], [1, 0, 0, 0]
    together = model.answer(images, questions, 12, owners)
    alone = [
        model.answer(images[owner][None], [question], 12)[0]
        for owner, question in zip(owners, questions, strict=True)
    ]
    assert together == alone and len(set(together)) > 1


def test_an_answer_between_two_equal_tokens_is_given_up_in_a_batch_and_not_alone(world):
    model = MLLM.load(world / "model")
    images = model.encode_images(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert model.answer(images, ["What?"], 4, closest=1e-4) != [None]
    head = model.llm.get_output_embeddings().weight.data
    head[:] = head[0]  # every token is as good as any other
    assert model.answer(images, ["What?"], 4, closest=1e-4) == [None]
    assert model.answer(images, ["What?"], 4) != [None]
