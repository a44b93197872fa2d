"""``granvit export``: a run as a folder for others, and its card."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from huggingface_hub import ModelCard
from PIL import Image
from runs_world import make_runs
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from granvit.cli import main
from granvit.config.reading import read_yaml
from granvit.models.mllm import MLLM
from granvit.models.projector import Projector
from granvit.reporting.finished_runs import find_run, finished_runs
from granvit.reporting.model_card import model_card


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(ROOT / "config", folder / "config")
    make_runs(folder / "results")
    mixtures = folder / "results" / "mini" / "data" / "mixtures"
    mixtures.mkdir(parents=True)
    counts = {"sources": {"Scenes": {"images": 30, "qa": {"bbox2caption": 90}, "regions": 90}}}
    (mixtures / "stage1-all.summary.json").write_text(json.dumps(counts))
    return folder


@pytest.fixture(autouse=True)
def in_world(world, monkeypatch):
    monkeypatch.chdir(world)


@pytest.fixture(scope="module")
def exported(world):
    """A process of its own: what libraries print as they are imported must not stand in its output."""
    command = [sys.executable, "-m", "granvit.cli", "export", "mllm", "sft-a/seed0", "out", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=world, env=environment, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert (said["run"], said["card"]) == ("mini/sft-a/seed0", "out/README.md")
    assert said["largest_logit_difference"] < 1e-3
    return world / "out"


def test_the_exported_folder_answers_as_the_run_does(world, exported):
    model = MLLM.load(world / "made" / "model")
    picture = Image.linear_gradient("L").resize((50, 30)).convert("RGB")
    expected = model.answer(model.encode_images(model.preprocess(picture)[None]), ["What is this?"], 8)[0]
    plain = AutoModelForImageTextToText.from_pretrained(exported)
    processor = AutoProcessor.from_pretrained(exported, backend="pil")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": "What is this?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    made = plain.generate(**inputs, max_new_tokens=8)[:, inputs["input_ids"].shape[1] :]
    assert processor.batch_decode(made, skip_special_tokens=True)[0].strip() == expected != ""


def test_the_card_says_what_the_run_was(exported):
    card = ModelCard.load(exported / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert card.data.eval_results is None  # the score's file was not the official one
    for line in (
        "- was taught to: ask, caption, describe, locate",
        "| llm Qwen2.5-1.5B | standins/llms/Qwen2.5-1.5B | apache-2.0 (a stand-in of this project) |",
        "| mini/projector-a/seed0 | projector | projector | projector-all | 40 | 10 | 0.5 |",
        "| mini/sft-a/seed0 | sft | encoder, projector, llm | sft-all | 40 | 10 | 0.5 |",
        "| stage1-all | Scenes | unknown | 30 | 90 |",
        "| GQA | exact_match | no | 53.00 | 42.50 to 63.00 | 100 |",
    ):
        assert line in card.text.splitlines()
    assert "largest difference of a logit" in card.text and "Scale: **mini**." in card.text


def test_what_the_hub_reads_are_results_on_official_files_and_parts_from_the_hub(world):
    run = find_run("results", "sft-a/seed0")
    file = world / "results" / "mini" / "scores" / "sft-a" / "seed0" / "GQA.json"
    score = json.loads(file.read_text())
    file.write_text(json.dumps({**score, "official_data": True}))
    try:
        paths = {"encoder": "google/siglip2-so400m-patch16-512", "llm": "Qwen/Qwen2.5-3B-Instruct"}
        card = model_card(run, finished_runs("results"), "mllm", paths, {})
    finally:
        file.write_text(json.dumps(score))
    assert card.data.base_model == list(paths.values())
    assert [(of.dataset_name, of.metric_value) for of in card.data.eval_results] == [("GQA", 53.0)]
    assert "| llm Qwen2.5-1.5B | Qwen/Qwen2.5-3B-Instruct | qwen-research (research only) |" in card.text


def test_the_encoder_alone_is_a_plain_folder_with_its_card(world, capsys):
    assert main(["export", "encoder", "results/mini/stage1/stage1-a/seed0/model", "enc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feature_layer"] == -2
    ours = MLLM.load(world / "made" / "model").encoder
    weights = AutoModel.from_pretrained(world / "enc").state_dict()
    assert weights and all(torch.equal(weights[name], of) for name, of in ours.model.state_dict().items())
    file = world / "enc" / "config.json"
    assert (
        not file.samefile(world / "made" / "model" / "encoder" / "config.json") and file.stat().st_nlink == 1
    )
    card = ModelCard.load(world / "enc" / "README.md")
    assert card.data.pipeline_tag == "image-feature-extraction" and "hidden_states[-2]" in card.text
    assert "llm Qwen2.5" not in card.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mllm", "sft-a/seed0", "config"], "config: something is there already; give a new folder"),
        (["mllm", "sft-a/seed1", "new"], "sft-a/seed1/model: no such folder; the run's model was removed"),
        (["mllm", "sft-b", "new"], "run 'sft-b': results holds no finished run of that name"),
        (["encoder", "sft-a/seed0", "config/config.yaml"], "something is there already"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(world, capsys, arguments, message):
    assert main(["export", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and re.search(message, error)
    assert not (world / "new").exists()


def test_what_llava_cannot_say_is_told_by_the_command(world, tmp_path, capsys):
    model = shutil.copytree(world / "made" / "model", tmp_path / "sft" / "tiled" / "seed0" / "model")
    Projector(4 * 32, 32, tiles=4).save(model / "projector")
    manifest = (world / "results/mini/sft/sft-a/seed0/manifest.json").read_text()
    (model.parent / "manifest.json").write_text(manifest)
    assert main(["export", "mllm", str(model), "tiled"]) == 1
    assert re.search(r"error: export mllm: this model sees 5 views .*pixel shuffle", capsys.readouterr().err)
    assert not (world / "tiled").exists()


def test_licences_are_of_the_configurations_published_models():
    files = [read_yaml(ROOT / "config" / file) for file in ("encoders.yaml", "llms.yaml")]
    lists = [models[name] for models in files for name in ("published", "small")]
    paths = {spec["path"] for models in lists for spec in models.values()}
    assert set(read_yaml(ROOT / "config" / "licences.yaml")) == paths
