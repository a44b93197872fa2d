"""Answers to held-out region questions: which are asked, what a line says, and training's own measures."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch
from factories import make_heldout
from test_models_packing import make_model
from test_training_heldout import Ranks

from granvit.errors import GranvitError
from granvit.evaluation import heldout_answers as job
from granvit.evaluation.heldout_answers import answer_heldout, measured
from granvit.evaluation.heldout_questions import choose_questions, read_answers, write_answers
from granvit.evaluation.heldout_regions import TASKS
from granvit.training.heldout import HeldOut

KINDS = {"Scenes": "natural", "Pages": "ocr"}


@pytest.fixture
def mixture(tmp_path) -> Path:
    """Six images of Scenes and four of Pages, three regions each, both tasks."""
    return make_heldout(tmp_path, Scenes=6, Pages=4)


def ask(tmp_path, mixture, model, number=100, batch_size=4, name="out", monkeypatch=None):
    model.save(tmp_path / "model")
    if monkeypatch:
        monkeypatch.setattr(job.MLLM, "load", lambda folder, device: model)
    out = tmp_path / f"{name}.jsonl"
    answer_heldout(tmp_path / "model", mixture, KINDS, number, out, batch_size, "cpu")
    return out


def test_both_tasks_are_asked_about_the_regions_of_smallest_hash_of_each_kind(mixture):
    everything = choose_questions(mixture, KINDS, 100)
    assert len(everything) == 10 * 3 * 2
    some = choose_questions(mixture, KINDS, 5)
    asked = {task: [question.index for question in some if question.task == task] for task in TASKS}
    assert asked["bbox2caption"] == asked["caption2bbox"] == sorted(asked["bbox2caption"])
    assert [question.data_type for question in some].count("ocr") == 10 and len(some) == 20
    more = {question.index for question in choose_questions(mixture, KINDS, 6)}
    assert {question.index for question in some} < more  # a larger sample keeps the smaller one


def test_two_runs_and_another_batch_size_write_the_same_bytes(tmp_path, mixture):
    model = make_model(tmp_path)
    with torch.no_grad():  # a random model that says something
        silent = [*model.end_ids, *model.tokenizer.all_special_ids, model.chat.before_answer[-1]]
        model.llm.get_input_embeddings().weight[silent] = 0
    first = ask(tmp_path, mixture, model).read_bytes()
    assert ask(tmp_path, mixture, model, name="again").read_bytes() == first
    assert ask(tmp_path, mixture, model, batch_size=7, name="other").read_bytes() == first
    rows = [json.loads(line) for line in first.decode().split("\n") if line]
    assert len(rows) == 60 and any(row["answer"] for row in rows)
    assert list(rows[0]) == [
        "key", "region", "source", "data_type", "width", "height", "task", "question", "gold_text",
        "gold_box", "answer", "box", "iou", "rouge_l",
    ]  # fmt: skip
    assert {(row["source"], row["data_type"]) for row in rows} == {("Scenes", "natural"), ("Pages", "ocr")}


def test_the_measures_are_those_that_training_logs(tmp_path, mixture, monkeypatch):
    model, questions = make_model(tmp_path), choose_questions(mixture, KINDS, 100)
    said = ["nothing", "a red ring", "[0, 0, 0.5, 0.5]"]
    truth = {q.text: q.expected if at % 2 else said[at % 3] for at, q in enumerate(questions)}
    monkeypatch.setattr(model, "answer", lambda _, questions, *rest, **more: [truth[q] for q in questions])
    logged = HeldOut(mixture, model, 100, "fp32", Ranks(1)).evaluate()
    answers = read_answers(ask(tmp_path, mixture, model, monkeypatch=monkeypatch))
    rouge = [answer.rouge_l for answer in answers if answer.task == "bbox2caption"]
    ious = [answer.iou for answer in answers if answer.task == "caption2bbox"]
    assert len(rouge) == len(ious) == 30
    assert 0.3 < statistics.mean(rouge) == pytest.approx(logged["heldout_rouge_l"])
    assert 0.3 < sum(iou >= 0.5 for iou in ious) / 30 == logged["heldout_acc_iou50"] < 1


def test_a_line_holds_the_box_in_pixels_and_none_where_the_answer_is_no_box(mixture):
    questions = choose_questions(mixture, KINDS, 100)
    places = next(q for q in questions if q.task == "caption2bbox" and q.image.width == 160)
    line = measured(places, "[0.25, 0.5, 0.5, 1]")
    assert (line.box, line.width, line.height) == ([40, 60, 80, 120], 160, 120)
    assert line.rouge_l is None and line.gold_box == places.image.regions[places.region].box
    assert (measured(places, "[0.5, 0.5, 0.25, 1]").box, measured(places, "there").iou) == (None, 0.0)
    assert measured(places, places.expected).iou == 1.0
    words = measured(next(q for q in questions if q.task == "bbox2caption"), "[0, 0, 1, 1]")
    assert (words.box, words.iou, words.rouge_l) == (None, None, 0.0)


def test_what_cannot_be_read_is_named_with_its_remedy(tmp_path, mixture):
    with pytest.raises(GranvitError, match="nowhere.parquet: not a mixture.*snakemake"):
        choose_questions(tmp_path / "nowhere.parquet", KINDS, 5)
    with pytest.raises(GranvitError, match="'Pages-.' is of source 'Pages', which the sources file lacks"):
        choose_questions(mixture, {"Scenes": "natural"}, 5)
    (tmp_path / "Pages" / "Pages.tar").unlink()
    with pytest.raises(GranvitError, match=r"image 'Pages-\d' cannot be read.*snakemake .*Pages.tar"):
        ask(tmp_path, mixture, make_model(tmp_path))
    with pytest.raises(GranvitError, match="none.jsonl: no answers there"):
        read_answers(tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl").write_text('{"key": "a"}\n')
    with pytest.raises(GranvitError, match="broken.jsonl: line 1: not an answer"):
        read_answers(tmp_path / "broken.jsonl")


def test_answers_with_odd_line_breaks_come_back_as_they_were(tmp_path, mixture):
    question = choose_questions(mixture, KINDS, 1)[0]
    answers = [measured(question, "one\u2028two\x85three\nfour"), measured(question, "")]
    write_answers(tmp_path / "a.jsonl", answers)
    assert read_answers(tmp_path / "a.jsonl") == answers
