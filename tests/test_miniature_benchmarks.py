"""The miniature benchmarks: VLMEvalKit files, gold answers that score 100, no image shared with training."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections import Counter, defaultdict

import pytest
from miniature_prompts import all_pairs, leftover_words

from granvit.boxes import format_box
from granvit.evaluation.benchmarks import load_benchmarks, read_questions
from granvit.evaluation.prompts import model_text
from granvit.evaluation.score import score
from granvit.evaluation.tsv_files import read_images
from granvit.miniature.benchmarks.render import write_benchmarks
from granvit.miniature.benchmarks.rows import Draw
from granvit.miniature.questions.variants import make_crop, make_diagram, twin_document, twin_scene
from granvit.miniature.sources import render_source
from granvit.miniature.world.documents import make_document
from granvit.miniature.world.rendering import fits_split, split_of
from granvit.miniature.world.scenes import contents, make_scene
from granvit.miniature.world.words import COLOURS

BENCHMARKS = load_benchmarks()
LOCATION_WORDS = {"left", "right", "top", "bottom", "center", "above", "below", "at", "of"}
QUESTIONS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(path, {"each": QUESTIONS})
    return path


def named(name):
    return next(benchmark for benchmark in BENCHMARKS if benchmark.name == name)


def gold(benchmark, cells) -> str:
    """What a model that knows everything says."""
    if benchmark.rule == "refcoco_iou50":
        return format_box(ast.literal_eval(cells["answer"]), int(cells["width"]), int(cells["height"]))
    if cells.get("answer_option"):
        return cells["answer_option"]
    if cells["answer"].startswith("["):
        return Counter(ast.literal_eval(cells["answer"])).most_common(1)[0][0]
    return cells["answer"]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.slug)
def test_gold_answers_score_full_marks(benchmark, folder, tmp_path):
    rows = [
        json.dumps({"index": question.index, "prediction": gold(benchmark, question.cells)})
        for question in read_questions(benchmark, folder)
    ]
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("\n".join(rows) + "\n")
    result = score(predictions, benchmark, folder)
    assert result["score"] == (1000 if benchmark.name == "OCRBench" else 100)
    assert result["failed_extractions"] in (None, 0)
    assert result["n"] >= QUESTIONS


def test_the_same_bytes_on_every_run(tmp_path):
    digests = []
    for root in (tmp_path / "a", tmp_path / "b"):
        write_benchmarks(root, {"each": 2})
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir()})
    assert digests[0] == digests[1]
    assert len(digests[0]) == 18  # RefCOCO, + and g share one file


def test_refcoco_has_its_eight_splits_of_equal_size(folder):
    views = [read_questions(named(name), folder) for name in ("RefCOCO", "RefCOCO+", "RefCOCOg")]
    splits = Counter(question.cells["split"] for view in views for question in view)
    names = (
        "RefCOCO_val",
        "RefCOCO_testA",
        "RefCOCO_testB",
        "RefCOCO+_val",
        "RefCOCO+_testA",
        "RefCOCO+_testB",
    )
    assert splits == dict.fromkeys((*names, "RefCOCOg_val", "RefCOCOg_test"), QUESTIONS)


def expressions(folder, name, split):
    questions = [q for q in read_questions(named(name), folder) if q.cells["split"].endswith(split)]
    return [question.cells["question"].split("describes: ")[1] for question in questions]


def test_testa_refers_to_faces_and_testb_to_other_things(folder):
    for name in ("RefCOCO", "RefCOCO+"):
        assert all("face" in text.split() for text in expressions(folder, name, "testA"))
        assert not any("face" in text.split() for text in expressions(folder, name, "testB"))
        faces = ["face" in text.split() for text in expressions(folder, name, "val")]
        assert any(faces) and not all(faces)


def test_refcoco_plus_has_no_location_word_and_refcoco_has(folder):
    for split in ("val", "testA", "testB"):
        assert not any(set(text.split()) & LOCATION_WORDS for text in expressions(folder, "RefCOCO+", split))
        assert all(set(text.split()) & LOCATION_WORDS for text in expressions(folder, "RefCOCO", split))


def test_refcocog_sentences_are_longer(folder):
    lengths = {
        name: [len(text.split()) for text in expressions(folder, name, "val")]
        for name in ("RefCOCO", "RefCOCOg")
    }
    assert min(lengths["RefCOCOg"]) > sum(lengths["RefCOCO"]) / len(lengths["RefCOCO"])


def test_mmbench_holds_every_rolling_of_a_question(folder):
    groups = defaultdict(list)
    for question in read_questions(named("MMBench"), folder):
        groups[int(question.index) % 1_000_000].append(question)
    assert len(groups) == QUESTIONS
    for rollings in groups.values():
        options = [[q.cells[letter] for letter in "ABCD" if letter in q.cells] for q in rollings]
        assert len({tuple(row) for row in options}) == len(rollings) == len(options[0])
        right = {q.cells[q.cells["answer"]] for q in rollings}
        assert len(right) == 1
        assert len({q.images for q in rollings}) == 1


def test_mmvp_pairs_share_the_question_and_differ_in_image_and_answer(folder):
    questions = read_questions(named("MMVP"), folder)
    assert len(questions) == QUESTIONS
    for first, second in zip(questions[::2], questions[1::2], strict=True):
        assert all(first.cells[key] == second.cells[key] for key in ("question", "A", "B"))
        assert {first.cells["answer"], second.cells["answer"]} == {"A", "B"}
        assert first.images != second.images


def test_hallusionbench_sets_swap_answers_between_figures(folder):
    sets = defaultdict(dict)
    for question in read_questions(named("HallusionBench"), folder):
        *kind, number, figure, which = question.index.split("_")
        sets[tuple(kind), number][figure, which] = (
            question.cells["question"],
            question.cells["answer"],
            question.images,
        )
    assert {kind for kind, _ in sets} == {("d", "VD", "figure"), ("d", "VD", "chart")}
    for rows in sets.values():
        assert len(rows) == 4
        for which in "01":
            assert rows["0", which][0] == rows["1", which][0]
            assert {rows["0", which][1], rows["1", which][1]} == {"Yes", "No"}
            assert rows["0", which][2] != rows["1", which][2]


@pytest.mark.parametrize("name", ["BLINK", "MMStar", "SEEDBench", "ScienceQA", "AI2D", "MMMU"])
def test_the_right_letter_is_even_for_every_number_of_options(folder, name):
    letters = defaultdict(Counter)
    for question in read_questions(named(name), folder):
        options = sum(letter in question.cells for letter in "ABCD")
        if options:
            letters[options][question.cells["answer"]] += 1
    assert sum(counts.total() for counts in letters.values()) >= QUESTIONS - 1  # one of MMMU's is open
    for options, counts in letters.items():
        assert max(counts.values()) <= counts.total() / options + 2


def test_yes_and_no_are_balanced(folder):
    asked = Counter()
    for benchmark in BENCHMARKS:
        answers = Counter(gold(benchmark, q.cells).lower() for q in read_questions(benchmark, folder))
        assert abs(answers["yes"] - answers["no"]) <= 2, benchmark.name
        asked[benchmark.name] = answers["yes"] + answers["no"]
    assert asked["HallusionBench"] >= QUESTIONS and asked["GQA"] > 0


def test_mmmu_asks_open_questions_and_shows_several_images(folder):
    questions = read_questions(named("MMMU"), folder)
    assert len(questions) == QUESTIONS
    assert any("A" not in question.cells for question in questions)
    assert any(len(question.images) == 2 for question in questions)
    assert all("<image 1>" in question.cells["question"] for question in questions)


def form(prompt: str) -> str:
    """A prompt without its question, hint and options."""
    text = re.sub(r"\n(?:[A-D]\.|\([A-D]\)) [^\n]*", "\n-", prompt)
    text = re.sub(r"(?:\n-)+", "\n-", text)
    text = re.sub(r"Hint: The [^\n]*", "Hint: -", text)
    return re.sub(r"(^|Question: )(?!Hint)[^\n]*(?=\n|$)", r"\1?", text)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.slug)
def test_prompts_are_made_of_known_chunks_and_words(benchmark, folder):
    prompts = [
        model_text(question.cells, benchmark.prompt, len(question.images))
        for question in read_questions(benchmark, folder)
    ]
    assert len(prompts) >= QUESTIONS and all(prompts)
    assert set().union(*map(leftover_words, prompts)) == set()


def test_prompt_forms_of_the_benchmarks_occur_in_training(folder):
    """All but MMMU's pairs of images, which a source with one image a record cannot ask about."""

    trained, looked = {form(question) for question, _ in all_pairs()}, 0
    for benchmark in BENCHMARKS:
        for question in read_questions(benchmark, folder):
            if len(question.images) == 1:
                asked = question.cells["question"]
                assert form(model_text(question.cells, benchmark.prompt)) in trained, asked
                looked += 1
    assert looked >= QUESTIONS * len(BENCHMARKS) - 1


def test_rows_about_one_image_hold_it_once(folder):
    for benchmark in BENCHMARKS:
        if not benchmark.name.startswith("RefCOCO"):
            digests = [digest for digest, _ in read_images(folder / benchmark.tsv)]
            shown = {image for question in read_questions(benchmark, folder) for image in question.images}
            assert shown and shown <= set(digests) and len(set(digests)) == len(digests)
            size = (folder / benchmark.tsv).stat().st_size
            assert size < 150_000 * len(digests)


def test_training_and_benchmark_contents_are_disjoint():
    training = ("pretrain", "projector", "instruct", "continued", "standins")
    for index in range(10):
        for namespace in training:
            assert not fits_split("benchmark", contents(make_scene(namespace, index).objects))
            assert not fits_split("benchmark", contents(make_diagram(namespace, index).scene.objects))
            assert not fits_split("dev", contents(make_scene(namespace, index).objects))
        assert split_of(contents(make_scene("dev", index).objects)) == "dev"
        crops = [make_crop(namespace, index) for namespace in ("instruct", "benchmark")]
        first, second = ((crop.line.text, crop.document.font) for crop in crops)
        assert first != second
        scene = make_scene("benchmark", index)
        twins = [twin_scene("benchmark", scene, scene.objects[0], "colour", colour) for colour in COLOURS]
        charts = [
            make_document("benchmark", index, "chart"),
            twin_document("benchmark", make_document("benchmark", index, "chart")),
        ]
        assert all(fits_split("benchmark", contents(s.objects)) for s in [scene, *filter(None, twins)])
        for chart in filter(None, charts):
            assert fits_split("benchmark", ["chart", *(line.text for line in chart.lines)])


def test_contents_are_split_in_three():
    shares = Counter(split_of(["a content", number]) for number in range(4000))
    assert abs(shares["dev"] / 4000 - 1 / 8) < 0.02 and abs(shares["benchmark"] / 4000 - 1 / 8) < 0.02
    assert set(shares) == {"train", "dev", "benchmark"}


@pytest.mark.parametrize("draw", [Draw("dev"), Draw(first=500)], ids=["dev", "another"])
def test_another_draw_asks_about_other_images(draw, folder, tmp_path):
    write_benchmarks(tmp_path, {"each": 2}, draw)
    for benchmark in BENCHMARKS:
        images = [{data for _, data in read_images(path / benchmark.tsv)} for path in (folder, tmp_path)]
        assert len(images[0]) > len(images[1]) > 0 and not images[0] & images[1]


def test_no_benchmark_image_is_a_training_image(folder, tmp_path):
    shown = {
        hashlib.sha256(data).digest()
        for benchmark in BENCHMARKS
        for _, data in read_images(folder / benchmark.tsv)
    }
    trained = set()
    for name in ("Scenes", "Instructions", "Captions"):
        render_source(name, 8, tmp_path / name)
        trained |= {hashlib.sha256(p.read_bytes()).digest() for p in (tmp_path / name / "images").iterdir()}
    assert len(shown) > 100 and len(trained) == 24
    assert not shown & trained
