"""Figures 4b and 10 to 13: questions are chosen by rule, and a page says what the answer files say."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from factories import make_heldout
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from test_reporting_data_figures import assert_legible, drawn, on_page, words_of

from granvit.boxes import format_box
from granvit.config.figures import load_figures
from granvit.errors import GranvitError
from granvit.evaluation.heldout_answers import measured
from granvit.evaluation.heldout_questions import HeldOutAnswer, choose_questions, write_answers
from granvit.evaluation.heldout_regions import HeldOutRegion, heldout_images
from granvit.reporting.answer_choice import (
    Compared,
    choose_failures,
    choose_quantiles,
    choose_ranked,
    examine,
)
from granvit.reporting.answer_figures import PREDICTED, TRUTH, page_of
from granvit.reporting.drawing import save_figure

FIGURES = load_figures()
KINDS = {"Scenes": "natural", "Pages": "ocr"}
BOX = HeldOutAnswer(
    "image", 0, "Scenes", "natural", 128, 128, "caption2bbox", "Where is a man?", "a man", [0, 0, 9, 9],
    "[0, 0, 0.5, 0.5]", [0, 0, 64, 64], iou=0.5, rouge_l=None,
)  # fmt: skip
WORDS = replace(BOX, task="bbox2caption", answer="a man", box=None, iou=None, rouge_l=1.0)
LONG = "a sentence that is far too long for the place it has " * 12


@pytest.fixture
def mixture(tmp_path) -> Path:
    """Twelve images of Scenes and eight of Pages, three regions each."""
    return make_heldout(tmp_path, Scenes=12, Pages=8)


def said_by(name: str, question) -> str:
    """Right, wrong or no box, by a hash of the model and the question."""
    number = hashlib.sha256(f"{name} {question.index} {question.task}".encode()).digest()[0] % 4
    return [question.expected, "[0.1, 0.2, 0.6, 0.9]", "a red square", "[0, 0, 0.5, 0.5]"][number]


@pytest.fixture
def answered(tmp_path, mixture):
    """Write what a model says of all questions: file and lines."""

    def write(name: str, say=said_by, kinds=KINDS):
        questions = choose_questions(mixture, KINDS, 100)
        lines = [measured(question, say(name, question)) for question in questions]
        lines = [line for line in lines if line.data_type in kinds.values()]
        path = tmp_path / f"{name}.jsonl"
        write_answers(path, lines)
        return path, lines

    return write


def draw(figure, answered, mixture, say=said_by, kinds=KINDS, **changes):
    """Page, facts, and the lines of each run."""
    settings = getattr(FIGURES, figure).model_dump() | changes
    written = {run: answered(run.replace(" ", "-"), say, kinds) for run in settings["runs"]}
    page, facts = page_of(figure, settings, [path for path, _ in written.values()], mixture, "mini")
    return page, facts, {run: lines for run, (_, lines) in written.items()}


def of_iou(value: float, key: str, region: int = 0) -> Compared:
    line = replace(BOX, key=key, region=region, iou=value)
    return Compared({"stage 1": replace(line, iou=1 - value), "stage 2": line})


def settings_of(figure, **changes):
    return getattr(FIGURES, figure).model_copy(update=changes)


def test_best_median_and_worst_are_ranked_by_the_last_runs_iou():
    found = [of_iou(value / 10, f"image {value}") for value in (3, 9, 0, 5, 7, 1, 8)]
    chosen = choose_ranked(found, settings_of("figure4b", best=2, median=1, worst=2))
    assert [(name, one.last.iou) for name, one in chosen] == [
        ("best", 0.9), ("best", 0.8), ("median", 0.5), ("worst", 0.0), ("worst", 0.1),
    ]  # fmt: skip
    assert choose_ranked([], settings_of("figure4b")) == []


def test_ties_are_broken_by_hash_and_an_image_is_shown_once():
    found = [of_iou(0.0, f"image {number}", region) for number in range(5) for region in range(3)]
    chosen = choose_ranked(found, settings_of("figure4b", best=2, median=2, worst=2))
    assert choose_ranked(found[::-1], settings_of("figure4b", best=2, median=2, worst=2)) == chosen
    keys = [one.question.key for _, one in chosen]
    assert len(keys) == len(set(keys)) == 5  # a sixth would show one again
    assert chosen[0][1] == min(found, key=lambda one: one.question.hash)


def test_quantiles_are_of_the_mean_over_all_models_within_each_kind_of_image():
    def of_rouge(first: float, last: float, key: str, kind: str) -> Compared:
        line = replace(WORDS, key=key, data_type=kind)
        return Compared({"A": replace(line, rouge_l=first), "B": replace(line, rouge_l=last)})

    natural = [of_rouge(*values, f"n{values}", "natural") for values in ((0, 1), (0.9, 0.9), (0.2, 0.3))]
    pages = [of_rouge(0.1, 0.1, "page", "ocr")]
    wanted = settings_of("figure10", data_types=["natural", "ocr"], quantiles=[1, 0.5, 0])
    chosen = [(quantile, one.question.key) for quantile, one in choose_quantiles([*pages, *natural], wanted)]
    assert chosen == [(1, "n(0.9, 0.9)"), (0.5, "n(0, 1)"), (0, "n(0.2, 0.3)"), (1, "page")]


@pytest.mark.parametrize("figure", ["figure4b", "figure11", "figure12"])
def test_a_page_of_boxes_says_what_the_answer_files_say(figure, answered, mixture):
    page, facts, lines = draw(figure, answered, mixture)
    assert_legible(page)
    words, settings = words_of(page), getattr(FIGURES, figure)
    number = settings.best + settings.median + settings.worst
    assert len(facts["keys"]) == number and len(drawn(page)) == 2 * number
    for shown in facts["shown"]:
        assert shown["question"] in words
        for run, answers in lines.items():
            line = next(a for a in answers if a.index == shown["question"] and a.task == "caption2bbox")
            assert line.data_type in settings.data_types
            assert shown[run] == {"answer": line.answer, "box": line.box, "iou": line.iou}
            assert (f"IoU {line.iou:.2f}" if line.box else "no box in the answer") in words
            assert line.answer in words
    some = [a for a in lines["after stage 2"] if a.iou is not None and a.data_type in settings.data_types]
    share = sum(a.iou >= 0.5 for a in some) / len(some)
    assert facts["acc_iou50"]["after stage 2"] == share > 0
    assert any(f"{share:.1%} after stage 2" in text for text in words)


def test_boxes_lie_where_the_lines_say_and_a_missing_one_is_named(answered, mixture):
    page, facts, lines = draw(
        "figure4b", answered, mixture, lambda name, q: q.expected if name == "right" else "there",
        runs={"right": "x", "lost": "y"}, best=1, median=0, worst=0,
    )  # fmt: skip
    page.canvas.draw()
    (key,) = facts["keys"]
    line = next(a for a in lines["right"] if a.index == key and a.task == "caption2bbox")
    first, second = drawn(page)

    def frames(picture, colour):
        found = picture.findobj(lambda a: isinstance(a, Rectangle) and a.get_edgecolor() == to_rgba(colour))
        return [frame.get_window_extent().extents for frame in found]

    x1, y1, x2, y2 = on_page(page, line.gold_box, line.width)
    height = page.bbox.height
    for colour in (TRUTH, PREDICTED):  # the right answer differs by the rounding of its three decimals
        assert frames(first, colour)[0] == pytest.approx((x1, height - y2, x2, height - y1), abs=1)
    assert len(frames(second, TRUTH)) == 1 and frames(second, PREDICTED) == []
    words = words_of(page)
    assert "no box in the answer" in words and "there" in words and "IoU 1.00" in words


def test_a_page_of_captions_says_what_the_answer_files_say(answered, mixture):
    page, facts, lines = draw("figure10", answered, mixture)
    assert_legible(page)
    words = words_of(page)
    assert len(facts["shown"]) == 6
    for shown in facts["shown"]:
        for run, answers in lines.items():
            line = next(a for a in answers if a.index == shown["question"] and a.task == "bbox2caption")
            assert shown[run] == {"answer": line.answer, "rouge_l": line.rouge_l}
            assert {run, line.answer, line.gold_text, f"ROUGE-L {line.rouge_l:.2f}"} <= set(words)
    assert facts["mean_rouge_l"]["natural"].keys() == {"SigLIP2", "SAILViT", "GranViT"}


@pytest.mark.parametrize("figure", ["figure4b", "figure10", "figure11", "figure13"])
def test_long_answers_and_an_empty_one_are_legible(figure, answered, mixture):
    def say(name, question):
        return "" if name in ("after-stage-1", "SigLIP2") or question.image.key[-1] in "02468" else LONG

    changes = {"max_box_share": 1.0} if figure == "figure13" else {}
    page, facts, _ = draw(figure, answered, mixture, say, **changes)
    assert_legible(page)
    words = words_of(page)
    assert facts["keys"] and "(nothing)" in words and any(text.endswith("…") for text in words)


def in_one_image(mixture, boxes, said):
    """Cases of one page of 100 x 100 pixels with these regions, and what is said of each."""
    question = next(q for q in choose_questions(mixture, KINDS, 100) if q.task == "bbox2caption")
    regions = [
        HeldOutRegion(text, box, {"bbox2caption": (format_box(box, 100, 100), text)}) for box, text in boxes
    ]
    image = replace(question.image, width=100, height=100, regions=regions)
    asked = [replace(question, image=image, region=at) for at in range(len(boxes))]
    return [examine(measured(q, text), image) for q, text in zip(asked, said, strict=True)]


def test_failures_are_found_by_their_measures(mixture):
    boxes = [
        ([0, 0, 5, 5], "tiny word"), ([20, 20, 60, 60], "a sign"), ([20, 30, 60, 60], "man in black"),
        ([70, 70, 99, 99], "blue car"),
    ]  # fmt: skip
    cases = in_one_image(mixture, boxes, ["nonsense", "green tree", "a sign", "blue car"])
    assert [case.measures() for case in cases] == [
        {"rouge_l": 0, "box_share": 0.0025, "regions": 4, "overlap": 0, "margin": 0},
        {"rouge_l": 0, "box_share": 0.16, "regions": 4, "overlap": 0.75, "margin": 0},
        {"rouge_l": 0, "box_share": 0.12, "regions": 4, "overlap": 0.75, "margin": 1},
        {"rouge_l": 1, "box_share": 0.0841, "regions": 4, "overlap": 0, "margin": 0},
    ]
    assert (cases[2].overlapped, cases[2].fitting) == (1, 1)
    rings = [([0, 0, 5, 5], "a red square"), ([20, 20, 60, 60], "a blue ring")]
    margins = [
        in_one_image(mixture, rings, [said, "x"])[0].margin for said in ("a blue square", "a blue ring")
    ]
    assert margins == pytest.approx([0, 2 / 3])  # above what fits the region itself
    # An image is shown once: as many images as cases
    cases = [replace(c, answer=replace(c.answer, key=f"image {at}")) for at, c in enumerate(cases)]
    kinds = choose_failures(cases, settings_of("figure13"))
    assert [kind.number for kind in kinds] == [1, 2, 1]
    small, overlapping = ({case.answer.key for case in kind.shown} for kind in kinds[:2])
    assert (small, overlapping) == ({"image 0"}, {"image 1", "image 2"})
    assert kinds[2].shown == []  # shown above already
    only = choose_failures([cases[2], cases[3]], settings_of("figure13", min_overlap=1.0))
    assert [len(kind.shown) for kind in only] == [0, 0, 1]


def test_the_page_of_failures_names_what_it_measured_and_what_it_did_not_find(answered, mixture):
    page, facts, _ = draw("figure13", answered, mixture, min_overlap=1.0, max_box_share=1.0)
    assert_legible(page)
    words = words_of(page)
    counts = {kind["kind"]: kind["failures"] for kind in facts["kinds"]}
    assert counts["Overlap"] == 0 < counts["Small box or dense text"]
    assert any(
        "None among 60 answers at this scale: the largest overlap of a failure's box" in w for w in words
    )
    assert facts["keys"] and set(facts["keys"]) <= set(words)
    shown = facts["kinds"][0]["shown"][0]
    assert any(f"The box covers {shown['box_share']:.2%} of the image" in text for text in words)


@pytest.mark.parametrize("figure", ["figure10", "figure12"])
def test_equal_answers_give_equal_bytes_and_a_changed_answer_another_figure(
    tmp_path, figure, answered, mixture
):
    _, facts, _ = draw(figure, answered, mixture)

    def changed(name, question):
        return "plum" if question.index == facts["keys"][0] else said_by(name, question)

    for name, say in (("a", said_by), ("b", said_by), ("c", changed)):
        page, found, _ = draw(figure, answered, mixture, say)
        save_figure(page, tmp_path / f"{name}.png", found)
    for end in ("png", "pdf"):
        first, second, other = ((tmp_path / f"{name}.{end}").read_bytes() for name in "abc")
        assert first == second != other


def test_a_scale_without_such_questions_still_has_its_figure(tmp_path, answered, mixture):
    page, facts, _ = draw("figure12", answered, mixture, kinds={"Scenes": "natural"})
    save_figure(page, tmp_path / "f.png", facts)
    assert facts["keys"] == [] and "This scale has no such held-out question." in words_of(page)
    page, facts, _ = draw("figure13", answered, mixture, kinds={})
    save_figure(page, tmp_path / "f.png", facts)
    assert sum("None among 0 answers" in text for text in words_of(page)) == 3


def test_answers_that_do_not_fit_together_are_named(tmp_path, answered, mixture):
    paths = [answered("all")[0], answered("some", kinds={"Pages": "ocr"})[0]]
    with pytest.raises(GranvitError, match="some.jsonl: answers other questions than .*all.jsonl"):
        page_of("figure4b", FIGURES.figure4b.model_dump(), paths, mixture, "mini")
    table = pq.read_table(mixture)
    pq.write_table(table.slice(len(table)), mixture)
    with pytest.raises(GranvitError, match="heldout.parquet: no image '.*', which answers are about"):
        page_of("figure4b", FIGURES.figure4b.model_dump(), [paths[0]] * 2, mixture, "mini")
    assert list(heldout_images(mixture)) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("  best: 1 ", "  best: -1 ", "figure4b.best"),
        ("data_types: [ocr]", "data_types: [pages]", "figure12.data_types"),
        ("quantiles: [1, 0.5, 0]", "quantiles: [50]", "figure10.quantiles"),
        ("{GranViT: sft-granvit}", "{}", "figure13.runs"),
        ("min_margin: 0.2", "margin: 0.2", "figure13.m"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, old, new, named):
    text = Path("config/figures.yaml").read_text()
    assert old in text
    (tmp_path / "figures.yaml").write_text(text.replace(old, new))
    with pytest.raises(GranvitError, match=named):
        load_figures(tmp_path / "figures.yaml")
