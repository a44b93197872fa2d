"""Reading VLMEvalKit's TSV files, asking a model, and scoring its answers."""

from __future__ import annotations

import base64
import io
import json

import pytest
import torch
from PIL import Image

from granvit.errors import GranvitError
from granvit.evaluation import predict as prediction
from granvit.evaluation.benchmarks import Benchmark, load_benchmarks, read_images, read_questions, read_rows
from granvit.evaluation.predict import predict, read_partial, shuffled
from granvit.evaluation.prompts import model_text
from granvit.evaluation.score import score, write_score
from granvit.evaluation.scorers import SCORERS, golds


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def write_tsv(path, rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["\t".join(columns), *("\t".join(str(row.get(key, "")) for key in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def benchmark(rule, prompt="plain", **changes):
    values = dict(
        name="Toy", tsv="Toy.tsv", split_prefix="", categories=(), rule=rule, prompt=prompt, capability="VQA",
        max_new_tokens=8, md5="",
    )  # fmt: skip
    return Benchmark(**{**values, **changes})


def answers(path, predictions):
    path.write_text("".join(json.dumps({"index": i, "prediction": p}) + "\n" for i, p in predictions.items()))
    return path


def test_the_twenty_benchmarks_are_all_there_with_rules_that_exist():
    benchmarks = load_benchmarks()
    assert len(benchmarks) == 20
    assert {b.rule for b in benchmarks} <= set(SCORERS)
    assert {b.slug for b in benchmarks if "+" in b.name} == {"RefCOCOplus"}


def test_rows_that_refer_to_another_rows_image_share_it(tmp_path):
    red, blue = picture("red"), picture("blue")
    write_tsv(tmp_path / "t.tsv", [
        {"index": 5, "image": 6, "question": "a"},
        {"index": 6, "image": red, "question": "b"},
        {"index": 7, "image": f"['{red}', '{blue}']", "question": "c"},
    ])  # fmt: skip
    rows = read_rows(tmp_path / "t.tsv")
    assert rows[0].images == rows[1].images and rows[2].images[0] == rows[1].images[0]
    assert len(list(read_images(tmp_path / "t.tsv"))) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"index": 1, "image": "9", "question": "q"}], "neither base64 nor the index"),
        ([{"index": 1, "image": "x" * 80, "question": ""}], "line 2: question is empty"),
        ([{"index": 1, "image": "x" * 80}], "column.s. question missing"),
    ],
)
def test_a_broken_tsv_is_refused_by_line_and_column(tmp_path, rows, message):
    write_tsv(tmp_path / "t.tsv", rows)
    with pytest.raises(GranvitError, match=message):
        read_rows(tmp_path / "t.tsv")


def test_image_marks_are_kept_only_where_they_name_one_of_several_images():
    def text(question, images):
        return model_text({"index": "1", "question": question, "image_path": images}, "interleaved_choice")

    assert text("In <image 1>?", "1.png") == "Question: In ?\n"
    assert text("<image 1><image 2>Which?", "['1.png', '2.png']") == "Question: Which?\n"
    assert text("Is <image 2> red?", "['1.png', '2.png']") == "Question: Is <image 2> red?\n"


def test_a_missing_benchmark_file_is_named(tmp_path):
    with pytest.raises(GranvitError, match="Toy.tsv: no such benchmark file"):
        read_questions(benchmark("anls"), tmp_path)


def test_views_of_refcoco_are_told_apart_by_split(tmp_path):
    rows = [
        {"index": i, "image": picture("red"), "question": "q", "answer": "[0, 0, 1, 1]", "split": split}
        for i, split in enumerate(["RefCOCO_val", "RefCOCO+_val", "RefCOCOg_val"])
    ]
    write_tsv(tmp_path / "Toy.tsv", rows)
    plus = read_questions(benchmark("refcoco_iou50", split_prefix="RefCOCO+_"), tmp_path)
    assert [question.index for question in plus] == ["RefCOCO+_val_1"]


def test_relative_and_pixel_golds_score_the_same_per_split(tmp_path):
    base = {"image": picture("red"), "question": "q", "width": 200, "height": 100}
    for gold in ("[0.1, 0.1, 0.5, 0.5]", "[20, 10, 100, 50]"):
        write_tsv(tmp_path / "Toy.tsv", [
            {"index": 0, **base, "answer": gold, "split": "RefCOCO_val"},
            {"index": 1, **base, "answer": gold, "split": "RefCOCO_testA"},
        ])  # fmt: skip
        made = answers(
            tmp_path / "p.jsonl", {"RefCOCO_val_0": "[0.1, 0.1, 0.5, 0.5]", "RefCOCO_testA_1": "nothing"}
        )
        result = score(made, benchmark("refcoco_iou50", split_prefix="RefCOCO_"), tmp_path)
        assert result["splits"]["RefCOCO_val"] == {"score": 100.0, "n": 1}
        assert (result["score"], result["failed_extractions"]) == (50.0, 0.5)


def test_blink_is_the_macro_mean_of_its_categories(tmp_path):
    cells = {"image": picture("red"), "question": "q", "A": "x", "B": "y", "answer": "A"}
    kinds = ["Counting", "Counting", "Counting", "Object_Localization", "Other"]
    write_tsv(tmp_path / "Toy.tsv", [{"index": i, **cells, "category": kind} for i, kind in enumerate(kinds)])
    made = answers(tmp_path / "p.jsonl", {0: "A", 1: "A", 2: "A", 3: "B"})
    result = score(
        made, benchmark("multiple_choice", categories=("Counting", "Object_Localization")), tmp_path
    )
    assert result["score"] == 50.0 and result["n"] == 4 and result["details"]["micro"] == 75.0


def test_mmbench_counts_a_question_only_if_every_rolling_is_right(tmp_path):
    image = picture("red")
    write_tsv(tmp_path / "Toy.tsv", [
        {"index": 1, "image": image, "question": "q", "A": "x", "B": "y", "answer": "A"},
        {"index": 1000001, "image": 1, "question": "q", "A": "y", "B": "x", "answer": "B"},
        {"index": 2, "image": 1, "question": "q", "A": "x", "B": "y", "answer": "A"},
    ])  # fmt: skip
    made = answers(tmp_path / "p.jsonl", {1: "A", 1000001: "A", 2: "A"})
    result = score(made, benchmark("mmbench_circular"), tmp_path)
    assert (result["score"], result["n"], result["details"]["rows"]) == (50.0, 2, 3)


def test_predictions_of_other_data_are_refused(tmp_path):
    write_tsv(tmp_path / "Toy.tsv", [{"index": 1, "image": picture("red"), "question": "q", "answer": "x"}])
    with pytest.raises(GranvitError, match="0 answers for 1 questions"):
        score(answers(tmp_path / "p.jsonl", {}), benchmark("anls"), tmp_path)


def test_a_score_file_says_how_it_was_made(tmp_path):
    write_tsv(
        tmp_path / "Toy.tsv", [{"index": 1, "image": picture("red"), "question": "q", "answer": "['x', 'y']"}]
    )
    write_score(
        answers(tmp_path / "p.jsonl", {1: "y"}), benchmark("anls"), tmp_path, tmp_path / "s" / "Toy.json"
    )
    content = json.loads((tmp_path / "s" / "Toy.json").read_text())
    assert content == {
        "benchmark": "Toy", "score": 100.0, "n": 1, "rule": "anls", "judge": "not needed",
        "failed_extractions": None, "official_data": False,
    }  # fmt: skip


def test_an_answer_that_merely_starts_with_a_bracket_is_one_gold(tmp_path):
    write_tsv(
        tmp_path / "Toy.tsv",
        [{"index": 1, "image": picture("red"), "question": "q", "answer": "[Ghana, Korea]"}],
    )
    assert golds(read_questions(benchmark("anls"), tmp_path)[0]) == ["[Ghana, Korea]"]


class Echo(torch.nn.Module):
    """A model that answers with the red value of its images and the question; counts its work."""

    def __init__(self, fail_after=None):
        super().__init__()
        self.encoded, self.asked, self.fail_after = 0, [], fail_after

    def preprocess(self, image):
        return torch.tensor(image.getpixel((0, 0))).view(3, 1, 1)

    def encode_images(self, pixels):
        self.encoded += len(pixels)
        return pixels[:, :1, 0].float()

    def answer(self, features, questions, max_new_tokens):
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        self.asked.append(list(questions))
        reds = ["+".join(str(int(v)) for v in row.flatten()) for row in features]
        return [f"{red} {question}" for red, question in zip(reds, questions, strict=True)]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Six questions on four images, and a way to run a model over them."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"1")
    rows = [{"index": i, "image": picture((i, 0, 0)), "question": "q" * (i + 1)} for i in range(4)]
    rows += [
        {"index": 4, "image": 0, "question": "again"},
        {"index": 5, "image": f"['{picture((1, 0, 0))}', '{picture((2, 0, 0))}']", "question": "both"},
    ]
    write_tsv(tmp_path / "Toy.tsv", rows)

    def run(model, out="out", **options):
        monkeypatch.setattr(prediction.MLLM, "load", lambda folder: model)
        predict(tmp_path / "model", [benchmark("anls")], tmp_path, tmp_path / out, 2, "cpu", **options)
        return (tmp_path / out / "Toy.jsonl").read_text()

    return run


def test_every_image_is_encoded_once_and_every_question_answered(toy):
    model = Echo()
    lines = [json.loads(line) for line in toy(model).splitlines()]
    assert model.encoded == 4
    assert {line["index"]: line["prediction"] for line in lines} == {
        "0": "0 q", "1": "1 qq", "2": "2 qqq", "3": "3 qqqq", "4": "0 again", "5": "1+2 both",
    }  # fmt: skip


def test_a_killed_job_goes_on_and_ends_with_the_same_bytes(toy, tmp_path):
    whole = toy(Echo(), out="whole")
    with pytest.raises(KeyboardInterrupt):
        toy(Echo(fail_after=2))
    (partial,) = (tmp_path / "out").glob("Toy.*.partial")
    with open(partial, "ab") as file:
        file.write(b'{"index": "3", "pre')
    rest = Echo()
    assert toy(rest) == whole
    assert len(rest.asked) == 2
    assert not list((tmp_path / "out").glob("*.partial"))


def test_answers_of_another_checkpoint_are_not_resumed(toy, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        toy(Echo(fail_after=2))
    (tmp_path / "model" / "weights").write_bytes(b"2")
    model = Echo()
    toy(model)
    assert sum(map(len, model.asked)) == 6


def test_a_partial_last_line_is_dropped(tmp_path):
    path = tmp_path / "x.partial"
    path.write_bytes(b'{"index": "1", "prediction": "a"}\n{"index"')
    assert read_partial(path) == {"1"}
    assert path.read_bytes().endswith(b"}\n")


def test_shuffled_images_are_never_a_questions_own(toy, tmp_path):
    questions = read_rows(tmp_path / "Toy.tsv")
    other = shuffled(tmp_path, questions)
    assert set(other) == set(other.values()) and all(a != b for a, b in other.items())
    own = {json.loads(line)["index"]: json.loads(line)["prediction"] for line in toy(Echo()).splitlines()}
    for line in toy(Echo(), out="chance", shuffle_images=True).splitlines():
        row = json.loads(line)
        assert row["prediction"] != own[row["index"]]
