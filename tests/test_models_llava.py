"""A whole model that is exported is a plain LLaVA folder: transformers alone sees the same pictures, reads
the same questions and gives the same answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_encoder, make_llm, make_tokenizer
from PIL import Image
from safetensors.torch import load_file
from test_models_published import ENCODERS, SPECS, tiny_encoder
from test_models_templates import letters
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForImageTextToText, LlavaForConditionalGeneration

from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder
from granvit.models.llava import FLATTENED, add_image_token, name_as_published, padding_scale, save_llava
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM
from granvit.models.packing import ChatFormat
from granvit.models.projector import Projector

FAMILIES = ("qwen2", "llama")
EXPORTED = sorted({*ENCODERS} - {"DINOv3"})  # LLaVA's class has no words for its register tokens
NAMES = [f"{encoder}-{FAMILIES[number % 2]}" for number, encoder in enumerate(EXPORTED)]
WORDS = ["red square", "blue ring", "12", "[0.1, 0.25, 0.5, 0.75]", "schön", "A. yes\nB. no"]
FORMS = ["What is {}?", "{} \n", "  Where is the {}?\n", "Is there a {} or not? Answer yes or no."]


def make_model(folder: Path, encoder_spec, language: str, tiles: int = 0, rows: int = 0) -> MLLM:
    """Random weights, large enough that answers depend on image and question (`evaluation_world`)."""
    spec = make_llm(folder / "llm", language)
    llm, encoder = load_llm(spec), load_encoder(encoder_spec)
    if rows:
        llm.resize_token_embeddings(rows)
    projector = Projector(encoder.width * (4 if tiles else 1), 32, tiles)
    torch.manual_seed(3)
    for part in (projector, llm):
        for parameter in part.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return MLLM(encoder, projector, llm, load_tokenizer(spec)).eval()


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> list[dict]:
    """Fifty questions on pictures of several shapes, one in five on two of them."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    pictures = []
    for number, (width, height) in enumerate([(50, 50), (64, 40), (31, 57), (32, 32), (90, 20)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        pictures.append(str(folder / f"{number}.png"))
    return [
        {
            "pictures": [pictures[n % 5], pictures[n % 3]] if n % 5 == 4 else [pictures[n % 5]],
            "question": FORMS[n % 4].format(WORDS[n % 6]),
        }
        for n in range(50)
    ]


@pytest.fixture(scope="module")
def exports(tmp_path_factory, questions) -> dict[str, tuple[MLLM, Path]]:
    """Each kind of encoder, with one language model or the other, exported and asked, in one process without
    this project."""
    root, made = tmp_path_factory.mktemp("llava"), {}
    for name in NAMES:
        encoder, _, language = name.rpartition("-")
        model = make_model(root / name, tiny_encoder(encoder, root / name / "encoder"), language)
        save_llava(model, root / name / "out")
        made[name] = model, root / name / "out"
    (root / "questions.json").write_text(json.dumps(questions))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", Path(__file__).parent / "llava_alone.py", root / "questions.json"]
    folders = [folder for _, folder in made.values()]
    subprocess.run([*command, *folders], cwd=root, env=environment, check=True)
    return made


@torch.inference_mode()
def ours(model: MLLM, asked: list[dict]) -> tuple[list[str], torch.Tensor]:
    """This project's answers to questions on equally many pictures, and the logits of their first tokens."""
    pixels = [model.preprocess(Image.open(path)) for of in asked for path in of["pictures"]]
    images = model.encode_images(torch.stack(pixels)).unflatten(0, (len(asked), -1)).flatten(1, 2)
    texts = [of["question"] for of in asked]
    embed, logits = model.llm.get_input_embeddings(), []
    for image, text in zip(images, texts, strict=True):
        ids = (model.chat.before_image, model.chat.prompt(text))
        before, after = (embed(torch.tensor(piece)) for piece in ids)
        logits.append(model.llm(inputs_embeds=torch.cat([before, image, after])[None]).logits[0, -1])
    return model.answer(images, texts, 8), torch.stack(logits)


@pytest.mark.parametrize("name", NAMES)
def test_transformers_alone_gives_our_logits_and_answers_to_fifty_questions(exports, questions, name):
    model, folder = exports[name]
    answers, logits = json.loads((folder / "answers.json").read_text()), torch.load(folder / "logits.pt")
    assert len(answers) == len(questions) == 50
    for number in (1, 2):
        places = [n for n, asked in enumerate(questions) if len(asked["pictures"]) == number]
        expected, expected_logits = ours(model, [questions[n] for n in places])
        found = logits[places, : expected_logits.shape[1]]
        torch.testing.assert_close(found, expected_logits, rtol=1e-4, atol=1e-4)
        assert [answers[n] for n in places] == expected
    assert len(set(answers)) > 10  # they depend on what was asked


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_towers_have_the_names_of_published_checkpoints_in_parts_too(tmp_path, family):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder", family), "qwen2")
    save_llava(model, tmp_path / "out")
    plain = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    plain.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    name_as_published(tmp_path / "parts", plain.config.vision_config.model_type)
    index = json.loads((tmp_path / "parts/model.safetensors.index.json").read_text())["weight_map"]
    names = {file.name: [*load_file(file)] for file in (tmp_path / "parts").glob("*.safetensors")}
    assert len(names) > 1 and index == {name: part for part, held in names.items() for name in held}
    for held in (index, load_file(tmp_path / "out/model.safetensors")):
        towers = [name for name in held if "vision_tower." in name]
        assert towers and all("vision_tower.vision_model." in name for name in towers)
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "parts").state_dict()
    assert all(torch.equal(again[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("family", ["siglip", "clip", "aimv2", "internvl"])
@pytest.mark.parametrize("layer", [1, -1])
def test_any_layer_of_the_encoder_can_be_the_one_that_is_read(tmp_path, family, layer):
    spec = make_encoder(tmp_path / "encoder", family).model_copy(update={"feature_layer": layer})
    assert save_llava(make_model(tmp_path, spec, "qwen2"), tmp_path / "out") < 1e-3


def test_tiles_are_refused_with_what_cannot_be_said(tmp_path):
    spec = make_encoder(tmp_path / "encoder")
    model = make_model(tmp_path, spec, "qwen2", tiles=4)
    with pytest.raises(GranvitError, match=r"5 views of an image \(tiles: 4\).*pixel shuffle"):
        save_llava(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_register_tokens_are_refused(tmp_path):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder", "dinov3"), "qwen2")
    with pytest.raises(GranvitError, match="the encoder has 5 tokens that are no patches"):
        save_llava(model, tmp_path / "out")


def test_the_image_token_takes_a_spare_row_where_there_is_one(tmp_path):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder"), "qwen2", rows=416)
    save_llava(model, tmp_path / "out")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert plain.config.image_token_id == len(model.tokenizer) < 416
    assert torch.equal(plain.get_input_embeddings().weight, model.llm.get_input_embeddings().weight)


@pytest.mark.parametrize("language", FAMILIES)
def test_the_image_token_is_never_an_answer(tmp_path, language):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder"), language)
    save_llava(model, tmp_path / "out")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    head, words = plain.get_output_embeddings().weight, len(model.tokenizer)
    assert len(head) == words + 1 and plain.config.tie_word_embeddings == (language == "qwen2")
    states = torch.randn(1000, 32, generator=torch.Generator().manual_seed(0))
    logits = states @ head.detach().T
    torch.testing.assert_close(logits[:, words], logits[:, :words].mean(1), rtol=1e-3, atol=1e-4)
    assert not (logits.argmax(1) == words).any()


@pytest.mark.parametrize("mean", [*(spec.mean for spec in SPECS.values()), [0.5, 0.4, 0.3], [0, 0, 0]])
def test_padding_of_the_exported_processor_has_this_projects_colour(mean):
    scale = padding_scale(mean)
    assert [int(255 * (scale * value)) for value in mean] == [round(255 * value) for value in mean]
    assert 1 <= scale < 1.01


def test_padding_that_the_processor_cannot_say_is_an_error():
    with pytest.raises(GranvitError, match="cannot pad with the mean colour"):
        padding_scale([1.5 / 255, 253.1 / 255, 0.5])


@pytest.mark.parametrize(
    ("changed", "to", "message"),
    [
        ("padding_scale", lambda mean: 1.0, "shows the model another picture"),
        (
            "FLATTENED",
            FLATTENED.replace("seen.images + ('\\n'", "seen.text + ('\\n'"),
            "writes a question other",
        ),
        ("_with_rows", lambda table, rows: table[:1].expand(rows, -1).clone(), "logits differ by"),
    ],
)
def test_an_export_that_is_another_model_is_refused(tmp_path, monkeypatch, changed, to, message):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder"), "qwen2")
    monkeypatch.setattr(f"granvit.models.llava.{changed}", to)
    with pytest.raises(GranvitError, match=message):
        save_llava(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["qwen", "llama"])
@pytest.mark.parametrize("question", ["What?", "Which? \n", " \nWhere?", "[[text 1]]"])
def test_published_templates_write_pictures_and_questions_as_training_does(family, question):
    tokenizer = letters(family)
    if family == "llama":  # as LLaMA3's own tokenizer.json puts it before any text
        begin = "<|begin_of_text|>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)]
        )
    chat = ChatFormat(tokenizer)
    plain, image_id = add_image_token(tokenizer)
    content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": "..."}}]
    text = plain.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids = plain(text, add_special_tokens=False)["input_ids"]
    assert ids == [*chat.before_image, image_id, *chat.prompt(question)]


def test_a_tokenizer_that_begins_every_text_is_asked_once(tmp_path):
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder"), "llama")
    begin = "<|begin_of_text|>"
    model.tokenizer.bos_token = begin
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, model.tokenizer.convert_tokens_to_ids(begin))]
    )
    assert save_llava(model, tmp_path / "out") < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_chats_without_pictures_are_written_as_before(family):
    tokenizer = make_tokenizer(family)
    chat = [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip
    expected = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    plain, _ = add_image_token(tokenizer)
    assert plain.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == expected
    as_lists = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in chat]
    assert plain.apply_chat_template(as_lists, tokenize=False, add_generation_prompt=True) == expected


def test_a_side_that_patches_do_not_divide_gives_as_many_tokens_as_here(tmp_path):
    """SigLIP-so400m's 384 pixels are 27 patches of 14, and 6 pixels."""
    model = make_model(tmp_path, make_encoder(tmp_path / "encoder", size=38, patch=8), "qwen2")
    assert model.image_tokens == 16 and save_llava(model, tmp_path / "out") < 1e-3
