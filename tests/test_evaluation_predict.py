"""Asking a model: every image encoded once, every question asked once, whatever happens in between."""

from __future__ import annotations

import json

import pytest
import torch
from evaluation_world import base64_picture, toy_benchmark, write_tsv

from granvit.errors import GranvitError
from granvit.evaluation import predict as prediction
from granvit.evaluation.agreement import differing
from granvit.evaluation.agreement import main as agreement
from granvit.evaluation.answer_files import AnswerFiles, drop_torn_line, read_answers
from granvit.evaluation.asks import Ask, PredictionJob, collect_asks, cut_batches, shard_of, shuffled
from granvit.evaluation.launch import merge
from granvit.evaluation.predict import predict
from granvit.evaluation.prompts import model_text
from granvit.evaluation.tsv_files import read_rows

ANSWERS = {"0": "0 q", "1": "1 qq", "2": "2 qqq", "3": "3 qqqq", "4": "0 again", "5": "1+2 both"}


class Echo(torch.nn.Module):
    """A model that answers with the red value of its images and the question; counts its work.

    ``unsure``: texts that it only answers alone; ``fail_after``: batches before it is interrupted.
    """

    def __init__(self, fail_after=None, unsure=()):
        super().__init__()
        self.encoded, self.asked, self.fail_after, self.unsure = 0, [], fail_after, unsure

    def preprocess(self, image):
        return torch.tensor(image.getpixel((0, 0))).view(3, 1, 1)

    def encode_images(self, pixels):
        self.encoded += len(pixels)
        return pixels[:, :1, 0].float()

    def answer(self, features, questions, max_new_tokens, owners=(0,), closest=0.0):
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked.append(list(questions))
        reds = ["+".join(str(int(v)) for v in features[owner].flatten()) for owner in owners]
        answers = [f"{red} {question}" for red, question in zip(reds, questions, strict=True)]
        return [None if closest and q in self.unsure else a for q, a in zip(questions, answers, strict=True)]


def job(folder, out="out", shuffle_images=False, reuse=True):
    return PredictionJob(
        model_dir=folder / "model", benchmarks=[toy_benchmark()], data_dir=folder,
        out_dir=folder / out, batch_size=2, device="cpu", shuffle_images=shuffle_images, reuse=reuse,
    )  # fmt: skip


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Six questions on four images, and a way to run a model over them."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"1")
    rows = [{"index": i, "image": base64_picture((i, 0, 0)), "question": "q" * (i + 1)} for i in range(4)]
    both = f"['{base64_picture((1, 0, 0))}', '{base64_picture((2, 0, 0))}']"
    rows += [{"index": 4, "image": 0, "question": "again"}, {"index": 5, "image": both, "question": "both"}]
    write_tsv(tmp_path / "Toy.tsv", rows)

    def run(model, out="out", shuffle_images=False, reuse=True, **shards):
        monkeypatch.setattr(prediction.MLLM, "load", lambda folder, device: model)
        predict(job(tmp_path, out, shuffle_images, reuse), **shards)
        file = tmp_path / out / "Toy.jsonl"
        return file.read_text() if file.exists() else None

    return run


def predictions(text):
    return {row["index"]: row["prediction"] for row in map(json.loads, text.splitlines())}


def test_every_image_is_encoded_once_and_every_question_answered_in_the_files_order(toy):
    model = Echo()
    text = toy(model)
    assert model.encoded == 4
    assert list(predictions(text).items()) == list(ANSWERS.items())


def test_a_killed_job_asks_only_what_is_missing_and_ends_with_the_same_bytes(toy, tmp_path):
    whole = toy(Echo(), out="whole")
    killed = Echo(fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        toy(killed)
    (partial,) = (tmp_path / "out").glob("Toy.*.partial")
    with open(partial, "ab") as file:
        file.write(b'{"index": "3", "pre')
    rest = Echo()
    assert toy(rest) == whole
    asked = [question for model in (killed, rest) for batch in model.asked for question in batch]
    assert sorted(asked) == sorted(text.partition(" ")[2] for text in ANSWERS.values())
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_job_killed_between_its_last_answer_and_the_merge_asks_nothing(toy, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(AnswerFiles, "merge", die)
        toy(Echo())
    rest = Echo()
    assert predictions(toy(rest)) == ANSWERS and not rest.asked


def test_answers_of_another_checkpoint_are_not_resumed(toy, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toy(Echo(fail_after=2))
    (tmp_path / "model" / "weights").write_bytes(b"2")
    model = Echo()
    toy(model)
    assert sum(map(len, model.asked)) == 6


def test_finished_answers_to_the_same_questions_are_not_asked_again(toy, tmp_path, capsys):
    whole = toy(Echo())
    again = Echo()
    assert toy(again) == whole and not again.asked
    assert "all 6 questions are answered already" in "".join(capsys.readouterr())
    lines = whole.splitlines(keepends=True)
    (tmp_path / "out" / "Toy.jsonl").write_text("".join(lines[:4]))
    rest = Echo()
    assert toy(rest) == whole and sorted(sum(rest.asked, [])) == ["again", "both"]


@pytest.mark.parametrize("change", ["model", "question", "image", "record", "option"])
def test_finished_answers_of_anything_else_are_asked_again(toy, tmp_path, change):
    toy(Echo())
    text = (tmp_path / "Toy.tsv").read_text()
    if change == "model":
        (tmp_path / "model" / "weights").write_bytes(b"2")
    elif change == "question":
        (tmp_path / "Toy.tsv").write_text(text.replace("again", "anew"))
    elif change == "image":
        (tmp_path / "Toy.tsv").write_text(text.replace(base64_picture((3, 0, 0)), base64_picture((9, 0, 0))))
    elif change == "record":
        (tmp_path / "out" / "fingerprints.json").write_text("{")
    model = Echo()
    toy(model, reuse=change != "option")
    assert sum(map(len, model.asked)) == 6


def test_a_folder_without_a_model_is_named(toy, tmp_path):
    (tmp_path / "model" / "weights").unlink()
    with pytest.raises(GranvitError, match="model: no model there; expected results/"):
        toy(Echo())


def test_an_answer_that_hangs_on_rounding_is_asked_for_alone(toy):
    model = Echo(unsure=("qq", "both"))
    assert predictions(toy(model)) == ANSWERS
    assert ["qq"] in model.asked and ["both"] in model.asked
    assert model.encoded == 4 + 3  # those questions' images once more, each by itself


def test_shards_ask_different_questions_and_together_write_what_one_process_writes(toy, tmp_path):
    whole, models = toy(Echo(), out="whole"), [Echo(), Echo(), Echo()]
    for shard, model in enumerate(models[:2]):
        assert toy(model, shard=shard, shards=3) is None
    with pytest.raises(GranvitError, match=r"questions of Toy have no answer .* every shard"):
        merge(job(tmp_path))
    toy(models[2], shard=2, shards=3)
    merge(job(tmp_path))
    assert (tmp_path / "out" / "Toy.jsonl").read_text() == whole
    asked = [question for model in models for batch in model.asked for question in batch]
    assert len(asked) == len(set(asked)) == 6 and sum(bool(model.asked) for model in models) > 1


def test_another_number_of_shards_goes_on_from_what_is_answered(toy):
    first = Echo()
    toy(first, shard=0, shards=2)
    rest = Echo()
    assert predictions(toy(rest)) == ANSWERS
    asked = [question for model in (first, rest) for batch in model.asked for question in batch]
    assert first.asked and len(asked) == 6


def test_questions_on_the_same_pictures_go_to_the_same_shard():
    asks = [Ask("A", str(i), f"text {i}", (f"picture {i % 40}",), 8) for i in range(200)]
    shards = {ask.index: shard_of(ask, 4) for ask in asks}
    assert all(shards[str(i)] == shards[str(i % 40)] for i in range(200))
    assert set(shards.values()) == {0, 1, 2, 3}


def test_batches_keep_an_images_questions_side_by_side():
    asks = [Ask("A", str(i), "x" * (i % 7 + 1), (f"picture {i // 3}",), 8) for i in range(12)]
    batches = cut_batches(reversed(asks), 6)
    assert [len({ask.images for ask in batch}) for batch in batches] == [2, 2]
    assert sorted(ask.index for batch in batches for ask in batch) == sorted(ask.index for ask in asks)
    assert batches == cut_batches(asks, 6)


def test_a_torn_last_line_is_dropped(tmp_path):
    path = tmp_path / "x.partial"
    path.write_bytes(b'{"index": "1", "prediction": "a"}\n{"index"')
    assert read_answers(path, torn=True) == {"1": "a"}
    drop_torn_line(path)
    assert path.read_bytes().endswith(b"}\n")


def test_an_answer_may_hold_any_character(tmp_path):
    files = AnswerFiles(tmp_path, {"Toy": "01234567"})
    asks = [Ask("Toy", str(i), "q", (), 8) for i in range(3)]
    answers = ["a\nb\u2028c\r", '"\\', "東京\x00"]
    with files:
        files.append(asks, answers)
    files.merge(asks)
    assert list(read_answers(tmp_path / "Toy.jsonl").values()) == answers


def test_an_image_that_cannot_be_read_is_named_by_its_question(toy, tmp_path):
    broken = (tmp_path / "Toy.tsv").read_text().replace(base64_picture((3, 0, 0)), "A" * 80)
    (tmp_path / "Toy.tsv").write_text(broken)
    with pytest.raises(GranvitError, match="Toy.tsv: question 3: its image cannot be read"):
        toy(Echo())


def test_shuffled_images_are_never_a_questions_own(toy, tmp_path):
    other = shuffled(tmp_path, read_rows(tmp_path / "Toy.tsv"))
    assert set(other) == set(other.values()) and all(a != b for a, b in other.items())
    own, chance = predictions(toy(Echo())), predictions(toy(Echo(), out="chance", shuffle_images=True))
    assert all(chance[index] != own[index] for index in own)


def test_image_marks_are_kept_only_where_they_name_one_of_several_images(tmp_path):
    def text(question, images):
        return model_text({"index": "1", "question": question}, "interleaved_choice", images)

    assert text("In <image 1>?", 1) == "Question: In ?\n"
    assert text("<image 1><image 2>Which?", 2) == "Question: Which?\n"
    assert text("Is <image 2> red?", 2) == "Question: Is <image 2> red?\n"
    pair = f"['{base64_picture('red')}', '{base64_picture('blue')}']"
    write_tsv(tmp_path / "Toy.tsv", [{"index": 1, "image": pair, "question": "Is <image 2> red?"}])
    ((ask,),) = collect_asks([toy_benchmark(prompt="interleaved_choice")], tmp_path).values()
    assert ask.text == "Question: Is <image 2> red?\n"  # the images of a list need no names


@pytest.mark.parametrize("mark", [0, 2])
def test_a_question_about_an_image_that_its_row_lacks_is_not_asked(tmp_path, mark):
    rows = [{"index": 7, "image": base64_picture("red"), "question": f"Is <image {mark}> red?"}]
    write_tsv(tmp_path / "Toy.tsv", rows)
    with pytest.raises(
        GranvitError, match=rf"Toy.tsv: question 7: it names <image {mark}> but the row has 1"
    ):
        collect_asks([toy_benchmark(prompt="interleaved_choice")], tmp_path)
    collect_asks([toy_benchmark()], tmp_path)  # elsewhere it is no mark


def test_the_share_of_answers_that_differ_is_reported(tmp_path, capsys):
    for folder, answer in (("a", "x"), ("b", "y")):
        (tmp_path / folder).mkdir()
        rows = [{"index": str(i), "prediction": answer if i == 3 else "same"} for i in range(4)]
        (tmp_path / folder / "Toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert agreement([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.endswith("total: 1 of 4 answers differ (25.00 %)\n")
    (tmp_path / "b" / "Toy.jsonl").write_text("")
    with pytest.raises(GranvitError, match="only one of the two folders answers question 0"):
        differing(tmp_path / "a", tmp_path / "b")
