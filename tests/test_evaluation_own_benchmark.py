"""A benchmark made of held-out boxes: what is asked, of which images, and that it can be asked and scored."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import ROOT
from data_worlds import edit_coco, prepare, spec, write_coco

from granvit.boxes import format_box
from granvit.cli import main
from granvit.data.mixtures.mixture import Drawing
from granvit.evaluation.benchmarks import load_benchmarks, read_questions
from granvit.evaluation.heldout_regions import heldout_images
from granvit.evaluation.tsv_files import read_images


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """All images of two sources, held out: on each of the first two *thing* things and a third one."""
    folder = tmp_path_factory.mktemp("held")
    root = write_coco(folder / "raw", images=6)

    def rename(content):
        for one in content["annotations"]:
            if one["caption"][:7] in ("thing 0", "thing 1"):
                one["caption"] = "Thing" if "0" in one["caption"][:7] else "thing"

    edit_coco(root, rename)
    indexes = prepare(spec(root, name="A"), folder)
    indexes += prepare(spec(write_coco(folder / "raw2", images=4, tag="b"), name="B"), folder)
    out = folder / "heldout.parquet"
    Drawing(indexes, out, folder / "heldout.json", 1.0).held_out()
    return out


@pytest.fixture
def made(mixture, tmp_path, capsys):
    out = tmp_path / "bench"
    assert main(["data", "benchmark", str(mixture), "--out", str(out), "--name", "My", "--number", "5"]) == 0
    assert capsys.readouterr().out == "My-describe: 10 questions\nMy-locate: 10 questions\n"
    return out


def test_questions_are_about_held_out_boxes_as_models_are_trained_to_answer(made, mixture):
    describe, locate = load_benchmarks(made / "benchmarks.tsv")
    assert (describe.rule, locate.rule) == ("anls", "refcoco_iou50")
    held = {(r.text, tuple(r.box)): r for image in heldout_images(mixture) for r in image.regions}
    asked = read_questions(describe, made)
    questions = {region.asked["bbox2caption"] for region in held.values()}
    assert {(one.cells["question"], one.cells["answer"]) for one in asked} <= questions
    for one in read_questions(locate, made):
        box = json.loads(one.cells["answer"])
        (region,) = [r for r in held.values() if r.asked["caption2bbox"][0] == one.cells["question"]]
        assert region.box == box and one.cells["width"] == "600"
    for benchmark in (describe, locate):
        splits = [one.cells["split"] for one in read_questions(benchmark, made)]
        assert splits.count("A") == splits.count("B") == 5


def test_what_two_things_are_called_is_not_to_be_located(made):
    _, locate = load_benchmarks(made / "benchmarks.tsv")
    texts = [one.cells["question"].lower() for one in read_questions(locate, made)]
    assert not any("thing." in text or 'thing"' in text or "'thing'" in text for text in texts)
    assert all("thing 0" in text or "thing 1" in text or "thing 2" in text for text in texts)


def test_an_image_stands_once_in_a_file_and_is_the_shards_own(made, mixture):
    describe, _ = load_benchmarks(made / "benchmarks.tsv")
    shown = {digest for one in read_questions(describe, made) for digest in one.images}
    pictures = [data for _, data in read_images(made / describe.tsv)]
    assert len(pictures) == len(shown) < 10
    assert set(pictures) <= {image.read() for image in heldout_images(mixture)}


def test_perfect_answers_score_100_and_others_less(made, mixture, tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "config", tmp_path / "project/config")
    monkeypatch.chdir(tmp_path / "project")
    listed = str(made / "benchmarks.tsv")
    for benchmark in load_benchmarks(listed):
        for name, change in (("right", lambda text: text), ("wrong", lambda text: "[0.9, 0.9, 1, 1]")):
            lines = []
            for one in read_questions(benchmark, made):
                answer = one.cells["answer"]
                if benchmark.rule == "refcoco_iou50":
                    answer = format_box(json.loads(answer), 600, 500)
                lines.append(json.dumps({"index": one.index, "prediction": change(answer)}))
            path = tmp_path / name / f"{benchmark.slug}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    call = ["eval", "score", str(tmp_path / "right"), str(tmp_path / "wrong"), "--list", listed, "--json"]
    assert main(call) == 0
    output = capsys.readouterr()
    right, wrong = json.loads(output.out).values()
    assert [one["score"] for one in right.values()] == [100, 100]
    assert [one["score"] for one in wrong.values()] == [0, 0]
    assert right["My-describe"]["splits"]["B"]["score"] == 100 and right["My-locate"]["official_data"]
    assert "not scored" not in output.err
    assert main(["eval", "score", str(tmp_path / "right"), "--list", listed, "--benchmarks", "MMStar"]) == 1
    assert f"{listed}: there is no benchmark 'MMStar'; it has My-describe" in capsys.readouterr().err


def test_a_mistake_is_one_line_and_makes_nothing(mixture, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "words.txt").write_text("no mixture")
    for arguments, told in (
        ([mixture, "--out", tmp_path / "there"], "is there already; give another folder in --out"),
        ([tmp_path / "gone.parquet", "--out", tmp_path / "o"], "not a mixture of held-out images"),
        ([tmp_path / "words.txt", "--out", tmp_path / "o"], "not a mixture of held-out images"),
        ([mixture, "--out", tmp_path / "o", "--name", "a/b"], "--name a/b: names files"),
        ([mixture, "--out", tmp_path / "o", "--number", "0"], "--number is 0; expected 1 or more"),
    ):
        assert main(["data", "benchmark", *map(str, arguments)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and told in error
    assert not (tmp_path / "o").exists() and not list(tmp_path.glob(".o*"))
