"""Instruction data of the miniature: well-posed questions, known prompts, sources that never change."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from miniature_prompts import all_pairs, documents, leftover_words, scenes
from PIL import Image

from granvit.boxes import parse_box
from granvit.errors import GranvitError
from granvit.miniature.questions import pairs as questions
from granvit.miniature.questions import templates
from granvit.miniature.questions.asking import Asked, lettered_options
from granvit.miniature.questions.documents import DOCUMENT_FAMILIES
from granvit.miniature.questions.scenes import (
    SCENE_FAMILIES,
    box_text,
    describe,
    expression,
    naming,
    region_caption,
    region_captions,
    relation_questions,
)
from granvit.miniature.questions.variants import make_subject
from granvit.miniature.sources import _INSTRUCTION_CYCLE, render_source
from granvit.miniature.world.documents import make_document
from granvit.miniature.world.rendering import rng_for
from granvit.miniature.world.scenes import make_scene

SOURCES = (
    "Scenes", "TextPages", "ChartsTables", "Receipts", "RichText", "Captions", "Instructions", "Continued",
)  # fmt: skip


def plain(asked: Asked) -> str:
    return f"{asked.hint or ''}{asked.question}"


def test_same_image_and_seed_give_the_same_questions():
    scene, document = make_scene("instruct", 3), make_document("instruct", 3, "receipt")
    assert questions.instruction_qa(scene, 0) == questions.instruction_qa(scene, 0)
    assert questions.instruction_qa(scene, 0) != questions.instruction_qa(scene, 1)
    assert questions.instruction_qa(document, 0) == questions.instruction_qa(document, 0)


def test_one_instruction_in_ten_is_about_a_box():
    images = [make_subject(kind, "instruct", i) for i in range(6) for kind in _INSTRUCTION_CYCLE]
    pairs = [pair for image in images for pair in questions.instruction_qa(image, 0)]
    boxes = [a for q, a in pairs if parse_box(a) or "bounding box coordinates" in q]
    assert 0.07 < len(boxes) / len(pairs) < 0.15


@pytest.mark.parametrize("kind", ["location", "attributes", "sentence"])
def test_an_expression_fits_one_object_only(kind):
    assert len(scenes()) == 80
    for number, scene in enumerate(scenes()):
        texts = [expression(scene.objects, thing, kind, rng_for(number, kind)) for thing in scene.objects]
        assert len(set(texts)) == len(texts) >= 2
        assert all(texts)


def test_a_description_fits_one_object_only():
    assert len(scenes()) == 80
    for scene in scenes():
        for thing in scene.objects:
            assert naming(scene.objects, thing)
            for names in naming(scene.objects, thing):
                fitting = [o for o in scene.objects if all(getattr(o, n) == getattr(thing, n) for n in names)]
                assert fitting == [thing], describe(thing, names)


def test_attribute_expressions_have_no_location_word():
    texts = [
        expression(scene.objects, thing, "attributes", rng_for(number))
        for number, scene in enumerate(scenes())
        for thing in scene.objects
    ]
    words = {word for text in texts for word in text.split()}
    assert len(texts) >= 160 and {"red", "striped", "large", "face"} <= words
    assert not words & {"left", "right", "top", "bottom", "center", "at", "above", "below"}


def test_answers_follow_from_the_image():
    """One question about one image never has two answers, and no wrong option is the right one."""
    looked = Counter()
    for number, scene in enumerate(scenes()):
        truth = {}
        for family, ask in SCENE_FAMILIES.items():
            for asked in ask(scene.objects, rng_for(family, number)):
                assert truth.setdefault(plain(asked), asked.answer) == asked.answer
                assert asked.answer not in asked.others
                looked["scene", family] += 1
    for number, document in enumerate(documents()):
        truth = {}
        for family, ask in DOCUMENT_FAMILIES.items():
            for asked in ask(document, rng_for(family, number)):
                assert truth.setdefault(plain(asked), asked.answer) == asked.answer
                assert asked.answer not in asked.others
                assert len(set(asked.others)) == len(asked.others)
                looked["document", family] += 1
    assert looked.keys() == {*product(["scene"], SCENE_FAMILIES), *product(["document"], DOCUMENT_FAMILIES)}
    assert min(looked.values()) >= 20


# What is said in words, and what the two boxes (xyxy, y downwards) then are to each other.
RELATIONS = {
    "to the left of": lambda a, b: a[2] <= b[0],
    "to the right of": lambda a, b: a[0] >= b[2],
    "above": lambda a, b: a[3] <= b[1],
    "below": lambda a, b: a[1] >= b[3],
}


def boxes_by_name(objects) -> dict[str, tuple]:
    """Every description without a place that fits one object, and where that object is."""
    return {describe(o, names): o.box for o in objects for names in naming(objects, o, without="place")}


def test_relation_questions_are_answered_as_the_boxes_lie():
    answers = Counter()
    for number, scene in enumerate(scenes()):
        boxes = boxes_by_name(scene.objects)
        for asked in relation_questions(scene.objects, rng_for(number)):
            said = re.fullmatch(rf"Is the (.+) ({'|'.join(RELATIONS)}) the (.+)\?", asked.question)
            assert said, asked.question
            first, relation, second = said.groups()
            truth = RELATIONS[relation](boxes[first], boxes[second])
            assert asked.answer == ("Yes" if truth else "No"), asked.question
            answers[relation, asked.answer] += 1
    assert answers.keys() == set(product(RELATIONS, ("Yes", "No"))) and min(answers.values()) > 50


def test_sentences_of_expressions_agree_with_the_boxes():
    said = Counter()
    for number, scene in enumerate(scenes()):
        boxes = {thing.caption(): thing.box for thing in scene.objects}
        for thing in scene.objects:
            text = expression(scene.objects, thing, "sentence", rng_for(number, thing.caption()))
            first, relation, second = re.fullmatch(rf"(.+) ({'|'.join(RELATIONS)}) (a .+)", text).groups()
            assert first == thing.caption()
            assert RELATIONS[relation](boxes[first], boxes[second]), text
            said[relation] += 1
    assert said.keys() == RELATIONS.keys() and min(said.values()) > 20


def test_yes_and_no_are_equally_frequent_in_training():
    answers = Counter(answer for _, answer in all_pairs() if answer in ("Yes", "No"))
    assert 0.4 < answers["Yes"] / answers.total() < 0.6


def test_right_letters_go_round():
    asked = Asked("colour", "What colour is the face?", "red", ("green", "blue", "pink", "black"))
    letters = Counter(lettered_options(asked, np.random.default_rng(i))[1] for i in range(400))
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 140


def test_a_multiple_choice_answer_names_the_right_option():
    asked = Asked("colour", "What colour is the face?", "red", ("green", "blue"))
    options, letter = lettered_options(asked, np.random.default_rng(0))
    assert options["ABCD".index(letter)] == "red"
    assert sorted(options) == ["blue", "green", "red"]


def test_every_prompt_is_made_of_known_chunks_and_words():
    unknown = {word for question, _ in all_pairs() for word in leftover_words(question)}
    assert unknown == set()


def test_chunks_occur_in_training_prompts():
    prompts = "\0".join(question for question, _ in all_pairs()) + templates.SCENE_TEMPLATES["image"]
    assert [chunk for chunk in templates.TEMPLATE_CHUNKS if chunk not in prompts] == []


def test_boxes_of_lines_are_those_on_the_page():
    located = Counter()
    for document in documents():
        texts = {box_text(line.box): line.text for line in document.lines if line.box}
        for question, answer in questions.continued_qa(document, 0):
            if parse_box(answer):
                assert question.endswith(texts[answer])
                located[document.kind] += 1
    assert located.keys() == {"text", "receipt", "rich"} and min(located.values()) > 5


def tree_digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_the_same_on_every_run_and_grows_by_appending(tmp_path, name):
    render_source(name, 2, tmp_path / "a")
    render_source(name, 4, tmp_path / "b")
    render_source(name, 2, tmp_path / "b2")
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b2")
    small, large = tree_digest(tmp_path / "a"), tree_digest(tmp_path / "b")
    images = {key for key in small if key.startswith("images/")}
    assert len(images) == 2
    assert all(large[key] == small[key] for key in images)


def test_images_of_sources_pass_the_resolution_rule(tmp_path):
    render_source("Scenes", 2, tmp_path / "s")
    sizes = [Image.open(path).size for path in (tmp_path / "s" / "images").iterdir()]
    assert len(sizes) == 2 and min(map(min, sizes)) > 448


def test_conversations_are_llava_turns_about_existing_images(tmp_path):
    render_source("Instructions", 20, tmp_path / "i")
    entries = json.loads((tmp_path / "i" / "conversations.json").read_text())
    assert len(entries) == 20
    for entry in entries:
        turns = entry["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert turns[0]["value"].startswith("<image>\n")
        assert (tmp_path / "i" / "images" / entry["image"]).is_file()


def test_unknown_source_and_bad_count_are_named(tmp_path):
    with pytest.raises(GranvitError, match="Scenez.*choose one of Scenes"):
        render_source("Scenez", 2, tmp_path / "x")
    with pytest.raises(GranvitError, match="count is 0"):
        render_source("Scenes", 0, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_region_captions_vary_and_name_one_object_only():
    forms = Counter()
    for scene in scenes(200):
        rng = rng_for("forms", scene.key)
        for thing in scene.objects:
            text = region_caption(scene.objects, thing, rng)
            assert text in region_captions(scene.objects, thing)
            others = [region_captions(scene.objects, other) for other in scene.objects if other is not thing]
            assert not any(text in captions for captions in others)
            full = text == thing.caption()
            forms["full" if full else "placed" if " at the " in text else "named"] += 1
    total = forms.total()
    assert abs(forms["full"] / total - 0.25) < 0.06 and abs(forms["placed"] / total - 0.25) < 0.06
    assert forms["named"] / total > 0.4
