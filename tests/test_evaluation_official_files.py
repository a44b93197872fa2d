"""Every benchmark's file, written by hand in VLMEvalKit's format, goes through prediction and scoring.

With what such files hold: several images a question, another row's image, images beside the file, any script,
ten options, quotes and line breaks, rows without answer.
"""

from __future__ import annotations

import csv
import json
import string

import pytest
from evaluation_world import base64_picture, picture, save_model

from granvit.evaluation.asks import PredictionJob, collect_asks
from granvit.evaluation.benchmarks import load_benchmarks
from granvit.evaluation.predict import predict
from granvit.evaluation.score import score

RED, BLUE, GREEN = (base64_picture(colour) for colour in ("red", "blue", "green"))
BOTH = f"['{RED}', '{BLUE}']"
FULL = {"OCRBench": 1000}  # all others are in percent


def choice(index, image, answer="B", options=("ein rotes Quadrat", "ein blaues", "東京", "всё"), **cells):
    letters = dict(zip(string.ascii_uppercase, options, strict=False))
    return {
        "index": index,
        "image": image,
        "question": "Was ist zu sehen – où?",
        **letters,
        "answer": answer,
    } | cells


def short(index, image, answer, question="Quelle est la valeur « totale » ?", **cells):
    return {"index": index, "image": image, "question": question, "answer": answer, **cells}


def refcoco(index, image, split, answer="[4, 4, 36, 30]"):
    cells = {"split": split, "width": 40, "height": 40}
    return short(index, image, answer, "Where is the red square? Answer [x1, y1, x2, y2].", **cells)


def rolled(index, image, answer, **cells):
    """A question of MMBench and its rolling: a million higher, options moved on by one."""
    options = ("rot", "blau", "grün")
    first = choice(index, image, answer, options, hint='Look at the\n"middle".', split="dev", **cells)
    moved = string.ascii_uppercase[(string.ascii_uppercase.index(answer) + 1) % 3]
    return [first, choice(index + 1_000_000, index, moved, (*options[-1:], *options[:-1]), **cells)]


def hallusion(index, image, answer):
    return short(index, image, answer, "Is the line longer? Yes or no.", **{"l2-category": "illusion"})


def mathvista(index, image, question_type, answer_type, answer="", **cells):
    kinds = {"question_type": question_type, "answer_type": answer_type, "choices": "None"}
    return short(index, image, answer, **kinds | cells)


TEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BLINK = [choice(i, BOTH, "A", category=c) for i, c in enumerate(("Counting", "Object_Localization"))]
FILES = {
    "RefCOCO": [
        refcoco(0, RED, "RefCOCO_val"), refcoco(1, "RefCOCO_val_0", "RefCOCO_testA"),
        refcoco(0, BLUE, "RefCOCO+_val"), refcoco(0, GREEN, "RefCOCOg_test"),
    ],
    "BLINK": [
        *BLINK, choice(2, 0, "B", category="Spatial_Relation"), choice(3, RED, category="Jigsaw"),
    ],
    "MMVP": [choice(i, RED if i % 2 else BLUE, "AB"[i % 2], ("(a) open", "(b) closed")) for i in range(4)],
    "MMBench_DEV_EN": [*rolled(1, RED, "A", category="x"), *rolled(2, BLUE, "C", category="y")],
    "MMStar": [choice(0, RED), choice(1, 0), choice(2, "")],  # the last has no image: the toolkit skips it
    "HallusionBench": [
        hallusion(f"a_VD_illusion_0_{i}_{j}", image, answer)
        for i, (image, answer) in enumerate([(RED, "Yes"), (BLUE, "No")]) for j in (0, 1)
    ],
    "GQA_TestDev_Balanced": [short(201307251, RED, "yes"), short(201307252, 201307251, "to the left")],
    "SEEDBench_IMG": [choice(0, RED, "D"), choice(1, 0, "")],
    "MMMU_DEV_VAL": [
        choice("dev_Art_1", RED, split="dev"),
        choice("validation_Art_2", BOTH, "J", TEN, split="validation", image_path="['2_1.png', '2_2.png']")
        | {"question": "Compare <image 1> and <image 2>."},
        short("validation_Math_3", GREEN, "42", "How many in <image 1>?", split="validation"),
    ],
    "MathVista_MINI": [
        mathvista(1, RED, "free_form", "integer", "7"), mathvista(2, 1, "free_form", "float", "0.5"),
        mathvista(3, BLUE, "multi_choice", "text", "x", choices="['x', 'y']", answer_option="A"),
    ],
    "MMVet": [short(0, RED, "-1<AND>-5"), short(1, 0, "Wembley<OR>wembley stadium", category="ocr")],
    "ScienceQA_TEST": [choice(3, RED, "A", hint="Ein Magnet zieht."), choice(5, 3, "A", ("oui", "non"))],
    "AI2D_TEST": [choice(0, RED, options=("a", "b", "None", "d")), choice(1, 0, "")],
    "OCRBench": [
        short(0, RED, "['CENTRE', 'center']", category="Regular Text Recognition"),
        short(1, BLUE, "['x^2']", category="Handwritten Mathematical Expression Recognition"),
    ],
    "DocVQA_VAL": [short(49153, RED, "['0.28', '0,28']"), short(24580, 49153, "['университет']")],
    "ChartQA_TEST": [
        short(0, RED, "['14']", split="test_human"), short(1, 0, "['0.57']", split="test_augmented"),
    ],
    "InfoVQA_VAL": [{"index": 7, "image_path": "7.png", "question": "How much?", "answer": "['a \"b\"']"}],
    "TextVQA_VAL": [short(34602, RED, str(["nokia"] * 9 + ["toshiba"])), short(34603, 34602, "")],
}  # fmt: skip


def write_official(folder):
    for name, rows in FILES.items():
        with open(folder / f"{name}.tsv", "w", encoding="utf-8", newline="") as file:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            writer = csv.DictWriter(file, columns, restval="", delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    (folder / "images" / "InfoVQA_VAL").mkdir(parents=True)
    (folder / "images" / "InfoVQA_VAL" / "7.png").write_bytes(picture("green"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The files, and a model's answers to them."""
    folder = tmp_path_factory.mktemp("official")
    write_official(folder)
    predict(PredictionJob(
        model_dir=save_model(folder), benchmarks=load_benchmarks(), data_dir=folder,
        out_dir=folder / "answers", batch_size=4, device="cpu",
    ))  # fmt: skip
    return folder


@pytest.mark.parametrize("benchmark", load_benchmarks(), ids=lambda benchmark: benchmark.slug)
def test_a_file_as_the_toolkit_has_it_is_answered_and_scored(world, benchmark):
    result = score(world / "answers" / f"{benchmark.slug}.jsonl", benchmark, world)
    assert 0 <= result["score"] <= FULL.get(benchmark.name, 100) and result["n"] > 0
    assert result["official_data"] is False


def answers(world, slug):
    lines = (world / "answers" / f"{slug}.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["index"] for line in lines if line]


def test_answers_carry_the_toolkits_indices_in_the_files_order(world):
    assert answers(world, "RefCOCO") == ["RefCOCO_val_0", "RefCOCO_testA_1"]
    assert answers(world, "RefCOCOplus") == ["RefCOCO+_val_0"]
    assert answers(world, "BLINK") == ["0", "1", "2"]
    assert answers(world, "MMBench") == ["1", "1000001", "2", "1000002"]
    assert answers(world, "MMStar") == ["0", "1"]
    assert answers(world, "MMMU") == ["validation_Art_2", "validation_Math_3"]
    assert answers(world, "DocVQA") == ["49153", "24580"]


def test_questions_show_all_their_images_and_all_their_options(world):
    asks = {(a.slug, a.index): a for group in collect_asks(load_benchmarks(), world).values() for a in group}
    art = asks["MMMU", "validation_Art_2"]
    assert len(art.images) == len(set(art.images)) == 2
    assert "<image 1> and <image 2>" in art.text and "\nJ. nine\n" in art.text
    assert asks["BLINK", "2"].images == asks["BLINK", "0"].images and len(asks["BLINK", "2"].images) == 2
    assert asks["MMMU", "validation_Math_3"].text.startswith("Question: How many in ?")
    assert "\nC. " not in asks["AI2D", "0"].text  # an option called None is none in the toolkit
    assert asks["MMBench", "1"].text.startswith('Hint: Look at the\n"middle".\nQuestion: Was ist')
    assert "C. 東京\nD. всё\n" in asks["MMStar", "0"].text


def test_a_question_without_an_answer_is_asked_and_not_scored(world):
    known = {benchmark.slug: benchmark for benchmark in load_benchmarks()}
    for slug in ("AI2D", "TextVQA", "SEEDBench"):
        result = score(world / "answers" / f"{slug}.jsonl", known[slug], world)
        assert (len(answers(world, slug)), result["n"], result["missing_golds"]) == (2, 1, 1)
