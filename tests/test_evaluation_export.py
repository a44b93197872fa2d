"""Predictions handed to other toolkits, and models driven by them."""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from benchmark_world import ROOT, make_answers, make_data, picture, write_rows
from PIL import Image

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import find_benchmark, load_benchmarks, read_questions
from granvit.evaluation.export import export_vlmevalkit
from granvit.evaluation.score import score

BENCHMARKS = load_benchmarks(ROOT / "config" / "benchmarks.tsv")
TOOLKIT = "GRANVIT_VLMEVALKIT_PYTHON"  # an interpreter that has the toolkit
CHECKOUT = "GRANVIT_VLMEVALKIT_CHECKOUT"  # or its source, of which commit e8e78f05 was tried


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All twenty benchmarks, one model's answers, and what was exported of them."""
    folder = tmp_path_factory.mktemp("world")
    data = make_data(folder / "data")
    answers = make_answers(folder / "answers", data, "one")
    files = export_vlmevalkit(answers, BENCHMARKS, data, folder / "exported", "tiny")
    return SimpleNamespace(data=data, answers=answers, exported=folder / "exported", files=files)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_data_set_becomes_one_file_with_the_toolkits_name(world):
    stems = {Path(benchmark.tsv).stem for benchmark in BENCHMARKS}
    assert {path.name for path in world.files} == {f"tiny_{stem}.tsv" for stem in stems}
    assert sorted(world.exported.iterdir()) == sorted(world.files)


def test_an_exported_file_holds_the_rows_without_images_and_the_answers_as_given(world):
    assert len(BENCHMARKS) == 20
    for benchmark in BENCHMARKS:
        rows = {row["index"]: row for row in read(world.exported / f"tiny_{Path(benchmark.tsv).stem}.tsv")}
        lines = (world.answers / f"{benchmark.slug}.jsonl").read_text().split("\n")
        said = {row["index"]: row["prediction"] for row in map(json.loads, filter(None, lines))}
        assert said.keys() <= rows.keys() and said
        for question in read_questions(benchmark, world.data):
            row = rows[question.index]
            assert row["prediction"] == said[question.index] and "image" not in row
            assert {key: row[key] for key in question.cells} == question.cells


def test_the_three_views_of_refcoco_share_a_file_in_the_data_sets_order(world):
    rows = read(world.exported / "tiny_RefCOCO.tsv")
    order = [f"{row['split']}_{row['index']}" for row in read(world.data / "RefCOCO.tsv")]
    assert [row["index"] for row in rows] == order


@pytest.mark.parametrize(
    ("stem", "column", "asked"),
    [
        ("BLINK", "category", {"Counting", "Object_Localization", "Spatial_Relation"}),
        ("MMMU_DEV_VAL", "split", {"validation"}),
    ],
)
def test_rows_that_were_not_asked_have_an_empty_answer(world, stem, column, asked):
    """Without them the toolkit takes the file for unfinished."""
    rows = read(world.exported / f"tiny_{stem}.tsv")
    assert [row["index"] for row in rows] == [row["index"] for row in read(world.data / f"{stem}.tsv")]
    others = [row for row in rows if row[column] not in asked]
    assert others and {row["prediction"] for row in others} == {""}


def test_half_of_a_data_sets_views_is_refused(world, tmp_path):
    (tmp_path / "RefCOCO.jsonl").write_bytes((world.answers / "RefCOCO.jsonl").read_bytes())
    with pytest.raises(GranvitError, match=r"RefCOCOplus.jsonl is missing"):
        export_vlmevalkit(tmp_path, BENCHMARKS, world.data, tmp_path / "out", "tiny")


@pytest.mark.parametrize("model", ["", "a/b"])
def test_a_name_that_cannot_be_a_file_name_is_refused(world, tmp_path, model):
    with pytest.raises(GranvitError, match="--model-name"):
        export_vlmevalkit(world.answers, BENCHMARKS, world.data, tmp_path, model)


def _first(rows: object) -> dict:
    return rows[0] if isinstance(rows, list) else rows


# data set -> the toolkit's number for what this project calls the score, in the score's own scale
THEIRS: dict[str, Callable[[object], float]] = {
    "HallusionBench": lambda rows: sum(_first(rows)[key] for key in ("aAcc", "fAcc", "qAcc")) / 3,
    "MMVP": lambda rows: 100 * _first(rows)["Average"],
    "MathVista": lambda rows: _first(rows)["acc"],
    "OCRBench": lambda rows: 1000 * rows["Final Score"] / 8,
    "BLINK": lambda rows: (
        100 * sum(_first(rows)[c] for c in find_benchmark(BENCHMARKS, "BLINK").categories) / 3
    ),
    **dict.fromkeys(("GQA", "DocVQA", "ChartQA", "InfoVQA", "TextVQA"), lambda rows: _first(rows)["Overall"]),
    **dict.fromkeys(
        ("MMBench", "MMStar", "SEEDBench", "ScienceQA", "AI2D"),
        lambda rows: 100 * _first(rows)["Overall"],
    ),
    "MMMU": lambda rows: 100 * next(row["Overall"] for row in rows if row["split"] == "validation"),
}


def toolkit_scores(exported: Path, data: Path) -> dict:
    """What VLMEvalKit's own scorers say of exported files, by data set."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [os.environ.get(TOOLKIT, sys.executable), str(ROOT / "tests" / "vlmevalkit_scores.py")]
    if TOOLKIT not in os.environ:
        command = [sys.executable, str(ROOT / "tests" / "vlmevalkit_checkout.py"), os.environ[CHECKOUT]]
    done = subprocess.run(
        [*command, str(exported), "tiny"], env={**environment, "LMUData": str(data), "PRED_FORMAT": "tsv"},
        cwd=exported.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not {TOOLKIT, CHECKOUT} & set(os.environ), reason=f"neither ${TOOLKIT} nor ${CHECKOUT}")
def test_vlmevalkit_reads_a_refcoco_file_without_split_and_size_as_it_is_read_here(tmp_path):
    rows = [
        {"index": i, "image": picture(i), "question": "Where?", "answer": f"[0.1, 0.1, 0.5, 0.{4 + i}]",
         "category": f"RefCOCO{kind} {part}"}
        for i, (kind, part) in enumerate((("", "testA"), ("", "val"), ("+", "test B"), ("g", "test")))
    ]  # fmt: skip
    data, said = tmp_path / "data", "[0.1, 0.1, 0.5, 0.8]"
    data.mkdir()
    write_rows(data / "RefCOCO.tsv", rows)
    views = [benchmark for benchmark in BENCHMARKS if benchmark.tsv == "RefCOCO.tsv"]
    ours = {}
    for view in views:
        lines = [json.dumps({"index": q.index, "prediction": said}) for q in read_questions(view, data)]
        (tmp_path / f"{view.slug}.jsonl").write_text("\n".join(lines))
        splits = score(tmp_path / f"{view.slug}.jsonl", view, data)["splits"]
        ours |= {name: split["score"] for name, split in splits.items()}
    export_vlmevalkit(tmp_path, views, data, tmp_path / "exported", "tiny")
    theirs = toolkit_scores(tmp_path / "exported", data)["RefCOCO"]
    assert len(set(ours.values())) == 2
    assert ours == {row["Split"]: row["Precision@1"] for row in theirs if row["Split"] != "Average"}


@pytest.mark.slow
@pytest.mark.skipif(not {TOOLKIT, CHECKOUT} & set(os.environ), reason=f"neither ${TOOLKIT} nor ${CHECKOUT}")
def test_vlmevalkit_gives_every_exported_file_the_same_score(world):
    theirs, differ = toolkit_scores(world.exported, world.data), {}
    for benchmark in BENCHMARKS:
        if benchmark.name == "MMVet":  # only a judge can mark it
            continue
        ours = score(world.answers / f"{benchmark.slug}.jsonl", benchmark, world.data)
        rows = theirs[Path(benchmark.tsv).stem]
        if "splits" in ours and benchmark.rule == "refcoco_iou50":
            pairs = {row["Split"]: row["Precision@1"] for row in rows}
            found = {name: (split["score"], pairs[name]) for name, split in ours["splits"].items()}
        else:
            found = {benchmark.name: (ours["score"], THEIRS[benchmark.name](rows))}
        differ |= {name: pair for name, pair in found.items() if pair[0] != pytest.approx(pair[1])}
    assert differ == {}


def test_importing_the_adapters_package_needs_no_toolkit():
    code = (
        "import sys, granvit.evaluation.toolkits; "
        "sys.exit(any(name in sys.modules for name in ('vlmeval', 'lmms_eval', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_entry_point_of_lmms_eval_names_what_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["granvit"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


class Reds:
    """In place of a model: answers with its images' red values and the question."""

    def __init__(self, *_: object) -> None:
        self.calls = []

    def answer(self, images, questions, max_new_tokens):
        self.calls.append((len(questions), max_new_tokens))
        reds = ["+".join(str(image.getpixel((0, 0))[0]) for image in row) for row in images]
        return [f"{red} {question}" for red, question in zip(reds, questions, strict=True)]


@pytest.fixture
def adapters(monkeypatch):
    """The adapters' modules, with the base classes that the toolkits would bring."""
    monkeypatch.setattr("granvit.evaluation.toolkits.Answerer", Reds)
    for name in ("vlmeval", "vlmeval.vlm", "vlmeval.vlm.base", "lmms_eval", "lmms_eval.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "lmms_eval.api.model", ModuleType("lmms_eval.api.model"))
    sys.modules["vlmeval.vlm.base"].BaseModel = type("BaseModel", (), {})
    sys.modules["lmms_eval.api.model"].lmms = type("lmms", (), {})
    names = [f"granvit.evaluation.toolkits.{name}" for name in ("vlmevalkit", "lmms_eval")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(**{name.rpartition(".")[2]: importlib.import_module(name) for name in names})
    for name in names:
        del sys.modules[name]


def colour(folder: Path, red: int) -> str:
    path = folder / f"{red}.png"
    Image.new("RGB", (8, 8), (red, 0, 0)).save(path)
    return str(path)


def test_vlmevalkit_asks_the_model_what_this_project_asks_it(adapters, tmp_path):
    model = adapters.vlmevalkit.GranViT("folder")
    model.dump_image = lambda line, dataset: line["paths"]
    line = {"index": 3, "image": "x", "question": "What?", "A": "cat", "B": "dog", "C": float("nan"),
            "paths": [colour(tmp_path, 7)]}  # fmt: skip
    message = model.build_prompt(line, "MMStar")
    assert model.use_custom_prompt("MMStar") and not model.use_custom_prompt("SomethingElse")
    said = model.generate_inner(message, "MMStar")
    assert said.startswith("7 Question: What?\nOptions:\nA. cat\nB. dog\nPlease select")
    assert model.answerer.calls == [(1, find_benchmark(BENCHMARKS, "MMStar").max_new_tokens)]


def test_vlmevalkit_shows_all_images_of_a_question_in_order(adapters, tmp_path):
    model = adapters.vlmevalkit.GranViT("folder")
    model.dump_image = lambda line, dataset: line["paths"]
    paths = [colour(tmp_path, 9), colour(tmp_path, 4)]
    line = {"index": 1, "question": "<image 1> or <image 2>?", "answer": "4", "paths": paths}
    assert model.generate_inner(model.build_prompt(line, "MMMU_DEV_VAL"), "MMMU_DEV_VAL").startswith("9+4 ")


def request(doc, text, **options):
    return SimpleNamespace(args=(text, options, lambda doc: doc["images"], doc, "task", "test"))


def test_lmms_eval_gets_its_answers_in_the_order_of_its_requests(adapters):
    model = adapters.lmms_eval.GranViT("folder", batch_size=2)
    images = [Image.new("RGB", (8, 8), (red, 0, 0)) for red in range(5)]
    docs = [{"images": images[i : i + 1 + i % 2]} for i in range(4)]
    model.task_dict = {"task": {"test": docs}}
    asked = [request(i, f"<image>\nq{i}", max_new_tokens=16 if i else 4) for i in range(4)]
    assert model.generate_until(asked) == ["0 q0", "1+2 q1", "2 q2", "3+4 q3"]
    assert sorted(model.answerer.calls) == [(1, 4), (1, 16), (2, 16)]


def test_lmms_evals_stop_texts_end_an_answer(adapters):
    model = adapters.lmms_eval.GranViT("folder")
    model.task_dict = {"task": {"test": [{"images": [Image.new("RGB", (8, 8))]}]}}
    assert model.generate_until([request(0, "one\n\ntwo", until=["\n\n"])]) == ["0 one"]


def test_lmms_evals_videos_are_refused_with_the_tasks_name(adapters):
    model = adapters.lmms_eval.GranViT("folder")
    model.task_dict = {"task": {"test": [{"images": ["clip.mp4"]}]}}
    with pytest.raises(GranvitError, match="task task: granvit needs one image"):
        model.generate_until([request(0, "what")])


def test_the_answerer_gives_what_the_predictor_gives(tmp_path):
    import torch
    from factories import make_world

    from granvit.evaluation.asks import PredictionJob
    from granvit.evaluation.predict import predict
    from granvit.evaluation.toolkits import Answerer
    from granvit.models.encoders import load_encoder
    from granvit.models.llms import load_llm, load_tokenizer
    from granvit.models.mllm import MLLM
    from granvit.models.projector import Projector

    made = make_world(tmp_path / "world")
    encoder, llm = load_encoder(made.encoder), load_llm(made.llm)
    projector = Projector(encoder.width, llm.config.hidden_size)
    for weight in (*projector.parameters(), *llm.parameters()):  # as first drawn, it says nothing
        torch.nn.init.normal_(weight.data, generator=torch.Generator().manual_seed(3))
    MLLM(encoder, projector, llm, load_tokenizer(made.llm)).save(tmp_path / "model")
    rows = [
        {"index": i, "image": picture(40 * i), "question": f"What is {i}?", "answer": "x"} for i in range(3)
    ]
    write_rows(tmp_path / "GQA_TestDev_Balanced.tsv", rows)
    benchmark = find_benchmark(BENCHMARKS, "GQA")
    predict(PredictionJob(
        model_dir=tmp_path / "model", benchmarks=[benchmark], data_dir=tmp_path,
        out_dir=tmp_path / "out", batch_size=2, device="cpu",
    ))  # fmt: skip
    lines = (tmp_path / "out" / "GQA.jsonl").read_text().splitlines()
    predicted = {json.loads(line)["index"]: json.loads(line)["prediction"] for line in lines}

    answerer = Answerer(tmp_path / "model", "cpu")
    images = [[Image.new("RGB", (40, 40), (40 * i % 256, 120 * i % 256, 90))] for i in range(3)]
    texts = [f"What is {i}?\nAnswer the question using a single word or phrase." for i in range(3)]
    said = answerer.answer(images, texts, benchmark.max_new_tokens)
    assert said == [predicted[str(i)] for i in range(3)] and len(set(said)) > 1
