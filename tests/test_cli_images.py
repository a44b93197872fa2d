"""``granvit describe | locate | caption | ask | attention``: one image, one model, one answer."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from runs_world import make_run, make_runs

from granvit.boxes import iou
from granvit.cli import main
from granvit.evaluation.own_images import around_point, read_box, read_point
from granvit.evaluation.toolkits import Answerer
from granvit.models.attention_maps import PatchMaps
from granvit.models.encoders import load_saved_encoder

SFT = ["--run", "sft-a/seed0"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_runs(folder / "results")
    pixels = np.random.default_rng(1).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    (folder / "words.txt").write_text("no image")
    (folder / "empty.png").write_bytes(b"")
    shutil.copytree(folder / "made" / "model" / "encoder", folder / "encoder")
    return folder


@pytest.fixture(autouse=True)
def in_world(world, monkeypatch):
    monkeypatch.chdir(world)


@pytest.fixture
def said(monkeypatch):
    """What is asked; the answer to all is ``answer``."""
    asked = {"questions": [], "answer": "[0.1, 0.2, 0.5, 0.75]"}

    def answer(self, images, questions, max_new_tokens):
        asked["questions"] += questions
        asked["tokens"] = max_new_tokens
        return [asked["answer"]]

    monkeypatch.setattr(Answerer, "__init__", lambda self, folder, device: asked.update(folder=folder))
    monkeypatch.setattr(Answerer, "answer", answer)
    return asked


def output(capsys, *arguments: str) -> dict:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_answer_is_that_of_the_model(world, capsys):
    found = output(capsys, "ask", "photo.png", "What is this?", "--max-new-tokens", "6", *SFT)
    picture = Image.open(world / "photo.png")
    model = world / "results/mini/sft/sft-a/seed0/model"
    assert found["answer"] == Answerer(model, "cpu").answer([[picture]], ["What is this?"], 6)[0] != ""
    assert (found["run"], found["width"], found["height"]) == ("mini/sft-a/seed0", 100, 60)
    assert main(["ask", "photo.png", "What is this?", "--max-new-tokens", "6", *SFT]) == 0
    assert capsys.readouterr().out == found["answer"] + "\n"


@pytest.mark.parametrize(
    ("options", "box", "said_as"),
    [
        (["--box", "10,15,50,45"], "[0.1, 0.25, 0.5, 0.75]", "read as pixels"),
        (["--box", "0.1,0.25,0.5,0.75"], "[0.1, 0.25, 0.5, 0.75]", "read as fractions"),
        (["--box", "[0.1, 0.25, 0.5, 0.75]"], "[0.1, 0.25, 0.5, 0.75]", "read as fractions"),
        (["--box", "0,0,1,1"], "[0, 0, 1, 1]", "read as fractions"),
        (["--box", "0,0,100,60"], "[0, 0, 1, 1]", "read as pixels"),
        (["--point", "50,30"], "[0.425, 0.375, 0.575, 0.625]", "around a point read as pixels"),
        (["--point", "0.5,0.5"], "[0.425, 0.375, 0.575, 0.625]", "around a point read as fractions"),
        (["--point", "0,0"], "[0, 0, 0.075, 0.125]", "around a point read as fractions"),
        ([], "[0, 0, 1, 1]", "the whole image"),
    ],
)
def test_a_place_is_asked_about_in_the_papers_form_and_its_unit_is_said(said, capsys, options, box, said_as):
    assert main(["describe", "photo.png", *options, *SFT]) == 0
    assert f"pixels of 100 x 60 ({said_as})" in capsys.readouterr().err
    assert said["questions"] == [
        f"Describe the content contained within the normalized bounding box coordinates {box} in no more "
        "than 10 words."
    ]


def test_a_box_is_drawn_on_a_copy_where_the_model_says(world, said, capsys):
    before = (world / "photo.png").read_bytes()
    found = output(capsys, "locate", "photo.png", "a red  square ", "--out", "found.png", *SFT)
    assert said["questions"][0].endswith("this sentence describes: a red  square")
    assert found["box"] == {"pixels": [10.0, 12.0, 50.0, 45.0], "fractions": [0.1, 0.2, 0.5, 0.75]}
    assert (world / "photo.png").read_bytes() == before
    drawn = np.asarray(Image.open(world / "found.png").convert("RGB")).astype(int)
    rows, columns = np.nonzero((abs(drawn - [0xE0, 0x00, 0x24]).sum(-1)) == 0)
    assert iou([columns.min(), rows.min(), columns.max(), rows.max()], [10, 12, 50, 45]) > 0.95
    assert (drawn[30, 30] == np.asarray(Image.open(world / "photo.png"))[30, 30]).all()  # inside: as it was


def test_an_answer_that_is_no_box_is_status_1_and_draws_nothing(world, said, capsys):
    said["answer"] = "on the left"
    assert main(["locate", "photo.png", "it", "--out", "none.png", "--json", *SFT]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["box"] is None and not (world / "none.png").exists()
    assert "error: the answer is no box: 'on the left'" in printed.err


def test_a_caption_is_asked_for_in_the_papers_words(said, capsys):
    said["answer"] = "A square."
    assert main(["caption", "photo.png", "--run", "projector-a"]) == 0
    assert capsys.readouterr().out == "A square.\n"
    assert said["questions"] == ["Describe in detail what is shown in the image in one paragraph"]
    assert said["tokens"] == 256


def test_attention_is_that_of_the_points_patch(world, capsys):
    found = output(capsys, "attention", "photo.png", "--point", "90,30", "--out", "map.png", *SFT)
    encoder = load_saved_encoder(world / "encoder")
    pixels = encoder.normalise(encoder.preprocess(Image.open(world / "photo.png")))[None]
    # the square is 100 pixels wide, of 4 x 4 patches; the image begins 20 pixels below its upper edge
    expected = PatchMaps(encoder, pixels).attention(0, [2 * 4 + 3])[0].reshape(4, 4)
    assert found["patch"] == {"row": 2, "column": 3} and found["grid"] == 4
    torch.testing.assert_close(torch.tensor(found["attention"]), expected, atol=1e-5, rtol=0)
    most = found["most"]
    assert found["attention"][most["row"]][most["column"]] == max(map(max, found["attention"]))
    assert Image.open(world / "map.png").size == (100, 60)
    of_encoder = output(capsys, "attention", "photo.png", "--point", "90,30", "--model", "encoder")
    assert of_encoder["attention"] == found["attention"] and of_encoder["run"] is None
    assert of_encoder["drawn"] == "photo-attention.png"


def test_the_newest_run_that_was_taught_this_answers(world, said, capsys):
    for command, run in (
        (["ask", "photo.png", "Why?"], "mini/sft-a/seed0"),  # seed 1 is newer, but its model is gone
        (["caption", "photo.png"], "mini/sft-a/seed0"),
    ):
        assert output(capsys, *command)["run"] == run
        assert str(said["folder"]).endswith("sft/sft-a/seed0/model")
    newest = make_run(world / "results", "stage1-new", "stage1", "projector-a", finished=3000)
    (newest / "model").symlink_to(world / "made" / "model")
    try:
        assert output(capsys, "describe", "photo.png")["run"] == "mini/stage1-new/seed0"
        assert main(["ask", "photo.png", "Why?"]) == 0
        assert "model: mini/sft-a/seed0 (the newest that is fit)" in capsys.readouterr().err
    finally:
        shutil.rmtree(newest.parent)


def test_a_model_folder_says_what_it_was_taught_where_its_manifest_is_beside_it(said, capsys):
    folder = "results/mini/stage1/stage1-a/seed0"
    for given in (folder, f"{folder}/model"):
        assert main(["ask", "photo.png", "Why?", "--model", given]) == 1
        error = capsys.readouterr().err
        assert "mini/stage1-a/seed0: a stage1 model was not taught to answer questions; take" in error
        assert main(["describe", "photo.png", "--model", given]) == 0
    assert main(["ask", "photo.png", "Why?", "--model", "made/model"]) == 0
    assert "no manifest.json beside it says what it was taught" in capsys.readouterr().err


def test_a_model_comes_from_the_hub_by_its_id(world, said, capsys, monkeypatch):
    asked = []
    fetch = "huggingface_hub.snapshot_download"
    monkeypatch.setattr(fetch, lambda name, **_: asked.append(name) or str(world / "made" / "model"))
    assert output(capsys, "ask", "photo.png", "Why?", "--model", "some/model")["answer"] == said["answer"]
    assert asked == ["some/model"]

    def offline(name, **_):
        raise OSError("no connection\nand more")

    monkeypatch.setattr(fetch, offline)
    assert main(["ask", "photo.png", "Why?", "--model", "some/model"]) == 1
    error = (
        "error: --model some/model: no such folder, and the hub does not give it (no connection); go online"
    )
    assert capsys.readouterr().err.startswith(error)


def test_an_exported_model_is_told_apart(tmp_path, capsys):
    (tmp_path / "processor_config.json").write_text("{}")
    assert main(["ask", "photo.png", "Why?", "--model", str(tmp_path)]) == 1
    assert "an exported model, which transformers asks" in capsys.readouterr().err


PROBLEMS = [
    (["caption", ""], "the image's name is empty"),
    (["caption", "no.png"], "no.png: cannot be read .No such file or directory.; give the file of an image"),
    (["caption", "results"], "results: cannot be read .Is a directory."),
    (["caption", "words.txt"], "words.txt: cannot be shown, it is no image of a known format; give a JPEG"),
    (["caption", "empty.png"], "empty.png: cannot be shown, the file is empty"),
    (["ask", "photo.png", "  "], "the question is empty"),
    (["locate", "photo.png", ""], "the text to look for is empty"),
    (["describe", "photo.png", "--box", "1,2,3"], "--box 1,2,3: expected x1,y1,x2,y2, in pixels or as frac"),
    (["describe", "photo.png", "--box", "a,b,c,d"], "--box a,b,c,d: expected x1,y1,x2,y2"),
    (["describe", "photo.png", "--box", "nan,0,1,1"], "--box nan,0,1,1: expected"),
    (["describe", "photo.png", "--box", ""], "--box : expected"),
    (
        ["describe", "photo.png", "--box", "50,10,20,40"],
        "x1 must be below x2 .*the image has 100 x 60 pixels",
    ),
    (
        ["describe", "photo.png", "--box", "5,5,101,20"],
        "read as pixels, it reaches beyond the image of 100 x",
    ),
    (
        ["describe", "photo.png", "--box", "0.2,0.2,1.1,0.9"],
        "it is less than a pixel wide or high; fractions",
    ),
    (["describe", "photo.png", "--box=-0.1,0,0.5,0.5"], "read as fractions, it reaches beyond the image"),
    (["attention", "photo.png", "--point", "5"], "--point 5: expected x,y"),
    (["attention", "photo.png", "--point", "500,5"], "--point 500,5: read as pixels, it reaches beyond"),
    (["attention", "photo.png", "--point", "1,5", "--out", "photo.png"], "that is the image itself"),
    (["locate", "photo.png", "x", "--out", "x.pdf"], "--out x.pdf: expected a file that ends with .png"),
    (["caption", "photo.png", "--max-new-tokens", "0"], "--max-new-tokens is 0; expected 1 or more"),
    (["caption", "photo.png", "--model", "encoder"], "encoder: no model folder, which holds encoder, proj"),
    (["caption", "photo.png", "--model", "nowhere"], "nowhere: no such folder; expected results"),
    (["caption", "photo.png", "--run", "nothing"], "run 'nothing': results holds no finished run"),
    (["caption", "photo.png", "--run", "sft-a/seed1"], "sft-a/seed1: no model folder"),
    (["caption", "photo.png", "--results", "made"], "made: no finished run there; train one"),
    (["locate", "photo.png", "x", "--run", "stage1-a"], "a stage1 model was not taught to find what a text"),
    (["describe", "photo.png", "--run", "projector-a"], "a projector model was not taught to describe boxes"),
    (["caption", "photo.png", "--device", "tpu"], "device: 'tpu' is unknown"),
]


@pytest.mark.parametrize(("arguments", "message"), PROBLEMS)
def test_a_mistake_is_one_line_and_status_1(capsys, arguments, message):
    assert main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if not line.startswith(("model: ", "box: "))]
    assert len(errors) == 1 and errors[0].startswith("error: ") and re.search(message, errors[0])


def test_nothing_that_was_taught_this_is_told(tmp_path, world, capsys):
    folder = make_run(tmp_path / "results", "stage1-a", "stage1", None, finished=1)
    (folder / "model").symlink_to(world / "made" / "model")
    assert main(["ask", "photo.png", "Why?", "--results", str(tmp_path / "results")]) == 1
    assert "none of its 1 finished runs was taught to answer questions; train" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["describe", "locate", "caption", "ask", "attention", "runs"])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"example: granvit {command}" in " ".join(capsys.readouterr().out.split())


def test_places_are_pixels_of_the_image():
    assert read_box("0.1,0.25,0.5,0.75", 100, 60).box == [10, 15, 50, 45]
    assert read_box("(10, 15, 50, 45)", 100, 60).box == [10, 15, 50, 45]
    assert read_point("0.25,1", 100, 60) == (25, 60, "fractions")
    assert around_point(98, 30, 100, 60) == [90.5, 22.5, 100, 37.5]
