"""The miniature benchmarks that have a structure of their own.

RefCOCO's splits, MMVP's pairs, HallusionBench's sets and figures, MMBench's rollings, MMMU's marks and
several images, MathVista's question types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice

from granvit.data.records.prompts import caption2bbox_question
from granvit.miniature.benchmarks.rows import (
    Draw,
    Families,
    Letters,
    Rows,
    Subject,
    image_cell,
    items,
    option_cells,
)
from granvit.miniature.questions import templates
from granvit.miniature.questions.asking import Asked, pick
from granvit.miniature.questions.scenes import VALUES, expression, name
from granvit.miniature.questions.templates import DOCUMENT_TEMPLATES, LETTERS, SCENE_TEMPLATES
from granvit.miniature.questions.variants import twin_document, twin_scene
from granvit.miniature.world.documents import make_document
from granvit.miniature.world.rendering import CANVAS, rng_for
from granvit.miniature.world.scenes import Scene, SceneObject, make_scene

ROLLING = 1_000_000  # MMBench: distance between the indices of two rollings of a question

# Splits that share their images, and whether they refer to faces, to other things or to both in turn: as in
# the published sets, where testA is about people, testB about everything else.
_REFCOCO_GROUPS = {
    "val": (("RefCOCO_val", "RefCOCO+_val", "RefCOCOg_val"), (True, False)),
    "testA": (("RefCOCO_testA", "RefCOCO+_testA"), (True,)),
    "testB": (("RefCOCO_testB", "RefCOCO+_testB"), (False,)),
    "test": (("RefCOCOg_test",), (True, False)),
}
_EXPRESSIONS = {"RefCOCO": "location", "RefCOCO+": "attributes", "RefCOCOg": "sentence"}

_MMBENCH_KINDS = ("scene", "scene", "rich", "scene", "receipt")
_MMBENCH_L2 = {
    "attribute_recognition": "finegrained_perception (instance-level)",
    "object_localization": "finegrained_perception (instance-level)",
    "ocr": "finegrained_perception (instance-level)",
    "spatial_relationship": "finegrained_perception (cross-instance)",
    "attribute_comparison": "finegrained_perception (cross-instance)",
    "image_style": "coarse_perception",
}
_MMBENCH: Families = {
    "scene": {
        "attribute_recognition": "colour, shape, texture",
        "object_localization": "place, count",
        "spatial_relationship": "relation",
        "attribute_comparison": "same",
        "image_style": "kind",
    },
    "rich": {"ocr": "line", "image_style": "kind"},
    "receipt": {"ocr": "value", "image_style": "kind"},
}

_MMMU: Families = {
    "scene": {"Art": "colour, identity, same", "Design": "relation"},
    "chart": {"Economics": "value, label, difference"},
    "diagram": {"Biology": "labelled colour, labelled shape, label"},
    "receipt": {"Accounting": "value, label"},
    "table": {"Finance": "value, label, difference"},
}
_MMMU_L2 = {"Art": "Art & Design", "Design": "Art & Design", "Biology": "Science"}

_MATHVISTA: Families = {
    "chart": {"figure question answering": "value, label, difference, higher"},
    "table": {"math word problem": "value, label, difference, higher"},
    "scene": {"visual question answering": "count"},
}


def _referents(group: str, questions: int, draw: Draw) -> Iterator[tuple[Scene, SceneObject]]:
    """Objects to refer to, at most two of a scene, faces or others as the group asks."""
    faces, start, made = _REFCOCO_GROUPS[group][1], draw.start(f"RefCOCO {group}"), 0
    for number in count():
        scene = make_scene(draw.split, start + number)
        left = list(scene.objects)
        for _ in range(2):
            fitting = [thing for thing in left if (thing.shape == "face") == faces[made % len(faces)]]
            if fitting:
                thing = pick(rng_for("referent", group, made), fitting)
                left.remove(thing)
                yield scene, thing
                made += 1
            if made == questions:
                return


def refcoco_rows(questions: int, draw: Draw) -> Rows:
    """All eight splits, ``questions`` rows each.

    Every row holds its image: the toolkit renames RefCOCO's rows when it loads them, so a reference could not
    be read there.
    """
    index = count()
    for group, (splits, _) in _REFCOCO_GROUPS.items():
        for number, (scene, thing) in enumerate(_referents(group, questions, draw)):
            for split in splits:
                kind = _EXPRESSIONS[split.split("_")[0]]
                text = expression(scene.objects, thing, kind, rng_for("expression", split, number))
                yield {
                    "index": next(index), "image": image_cell(scene), "question": caption2bbox_question(text),
                    "answer": str(list(thing.box)), "width": CANVAS, "height": CANVAS, "split": split,
                }  # fmt: skip


def _twins(
    benchmark: str, attributes: tuple[str, ...], draw: Draw
) -> Iterator[tuple[Scene, Scene, str, str, str, str]]:
    """Endless pairs of scenes that differ in one attribute of one object.

    Yields both scenes, the attribute, the object's name without it, its value in the first and in the second.
    """
    start = draw.start(benchmark)
    for number in count():
        scene, rng = make_scene(draw.split, start + number), rng_for("twins", benchmark, number)
        attribute, thing = attributes[number % len(attributes)], pick(rng, scene.objects)
        text, old = name(scene.objects, thing, rng, without=attribute), getattr(thing, attribute)
        for i in rng.permutation(len(VALUES[attribute])) if text else ():
            new = VALUES[attribute][int(i)]
            twin = None if new == old else twin_scene(draw.split, scene, thing, attribute, new)
            if twin is not None:
                yield scene, twin, attribute, text, old, new
                break


def mmvp_rows(questions: int, draw: Draw) -> Rows:
    """Pairs of rows: one question, two pictures that differ in what it asks, the other answer."""
    letters, index = Letters("MMVP"), count()
    pairs = islice(_twins("MMVP", ("colour", "texture", "shape"), draw), -(-questions // 2))
    for scene, twin, attribute, text, old, new in pairs:
        options, letter = letters.arrange(Asked(attribute, "", old, (new,)))
        for image, answer in ((scene, letter), (twin, "B" if letter == "A" else "A")):
            yield {
                "index": next(index), "image": image,
                "question": SCENE_TEMPLATES[attribute].format(thing=text),
                **dict(zip("AB", options, strict=True)), "answer": answer,
            }  # fmt: skip


def _figure_sets(draw: Draw) -> Iterator[tuple[str, list[Subject], list[str]]]:
    """Endless sets: kind, two figures, two questions, each of which is true of its own figure only."""
    for scene, twin, _, text, old, new in _twins("HallusionBench", ("colour", "texture"), draw):
        texts = [SCENE_TEMPLATES["attribute"].format(thing=text, value=value) for value in (old, new)]
        yield "figure", [scene, twin], texts


def _document_sets(kind: str, draw: Draw) -> Iterator[tuple[str, list[Subject], list[str]]]:
    for index in count(draw.start(f"HallusionBench {kind}")):
        document = make_document(draw.split, index, kind)
        twin = twin_document(draw.split, document)
        if twin is not None:
            low, high = sorted(document.entries[:2], key=lambda entry: entry.value)
            pairs = ((high.label, low.label), (low.label, high.label))
            texts = [DOCUMENT_TEMPLATES["higher"].format(thing=a, other=b) for a, b in pairs]
            yield kind, [document, twin], texts


def hallusion_rows(questions: int, draw: Draw) -> Rows:
    """Sets of two figures and two yes/no questions; every question has both answers in its set."""
    figures = _figure_sets(draw)
    sources = (figures, _document_sets("chart", draw), figures, _document_sets("table", draw))
    numbers: dict[str, int] = {}
    for turn in range(-(-questions // 4)):
        kind, images, texts = next(sources[turn % len(sources)])
        number = numbers[kind] = numbers.get(kind, -1) + 1
        for figure, image in enumerate(images):
            for question, text in enumerate(texts):
                index = f"d_VD_{kind}_{number}_{figure}_{question}"
                yield {
                    "index": index, "image": image, "question": text,
                    "answer": "Yes" if figure == question else "No", "category": "VD",
                    "l2-category": f"VD_{kind}",
                }  # fmt: skip


def mmbench_rows(questions: int, draw: Draw) -> Rows:
    """Every question with its options in each circular order; all must be answered rightly."""
    letters = Letters("MMBench")
    stream = items("MMBench_DEV_EN", _MMBENCH, questions, draw, 2, _MMBENCH_KINDS)
    for index, (image, asked, category) in enumerate(stream):
        options, _ = letters.arrange(asked)
        for turn in range(len(options)):
            rolled = options[turn:] + options[:turn]
            yield {
                "index": index + turn * ROLLING, "image": image, "question": asked.question, "hint": "",
                **option_cells(rolled), "answer": LETTERS[rolled.index(asked.answer)],
                "category": category, "l2-category": _MMBENCH_L2[category], "split": "dev",
            }  # fmt: skip


def mmmu_rows(questions: int, draw: Draw) -> Rows:
    """``questions`` rows of the validation split after a sixth as many of dev.

    Of ten rows one is open and one has two images.
    """
    letters, dev = Letters("MMMU"), questions // 6
    for index, (image, asked, category) in enumerate(items("MMMU_DEV_VAL", _MMMU, dev + questions, draw, 2)):
        split = {"split": "dev" if index < dev else "validation"}
        if index % 10 == 9:
            yield _two_image_cells(index, letters, draw) | split
            continue
        options, letter = letters.arrange(asked) if index % 10 != 4 else ([], asked.answer)
        yield {
            "index": index, "image": image, "image_path": f"{index}_1.jpg",
            "question": f"<image 1>{asked.question}", **option_cells(options), "answer": letter,
            "category": category, "l2-category": _MMMU_L2.get(category, "Business"),
        } | split  # fmt: skip


def _two_image_cells(index: int, letters: Letters, draw: Draw) -> dict[str, object]:
    """A question that needs both of two images: which of them has a thing that the other lacks."""
    place, things = letters.place(2), []
    attempts = count()
    while not things:
        start = draw.start(f"MMMU pair {index} {next(attempts)}")
        scenes = [make_scene(draw.split, start + i) for i in range(2)]
        absent = {(o.colour, o.shape) for o in scenes[1 - place].objects}
        things = [f"{o.colour} {o.shape}" for o in scenes[place].objects if (o.colour, o.shape) not in absent]
    return {
        "index": index, "image": repr([image_cell(scene) for scene in scenes]),
        "image_path": repr([f"{index}_1.jpg", f"{index}_2.jpg"]),
        "question": f"<image 1><image 2>{SCENE_TEMPLATES['image'].format(thing=things[0])}",
        **option_cells(["first", "second"]), "answer": LETTERS[place], "category": "Design",
        "l2-category": "Art & Design",
    }  # fmt: skip


def mathvista_rows(questions: int, draw: Draw) -> Rows:
    """Numbers as free-form integers and as choices in turn, the rest as choices; the question says which."""
    letters, numeric = Letters("MathVista"), 0
    for index, (image, asked, task) in enumerate(items("MathVista_MINI", _MATHVISTA, questions, draw, 3)):
        numeric += asked.answer.isdigit()
        if asked.answer.isdigit() and numeric % 2:
            question = templates.math_integer_form(asked.question)
            types, options, letter = ("free_form", "integer"), None, ""
        else:
            options, letter = letters.arrange(asked)
            question = templates.math_choice_form(asked.question, options)
            types = ("multi_choice", "text")
        yield {
            "index": index, "image": image, "question": question, "answer": asked.answer,
            "question_type": types[0], "answer_type": types[1], "choices": repr(options),
            "answer_option": letter, "precision": "", "task": task,
            "skills": repr(["arithmetic" if asked.family == "difference" else "statistical"]),
            "category": "general-vqa" if task.startswith("visual") else "math-targeted-vqa",
        }  # fmt: skip


# file name -> rows
BENCHMARKS: dict[str, Callable[[int, Draw], Rows]] = {
    "RefCOCO": refcoco_rows,
    "MMVP": mmvp_rows,
    "HallusionBench": hallusion_rows,
    "MMBench_DEV_EN": mmbench_rows,
    "MMMU_DEV_VAL": mmmu_rows,
    "MathVista_MINI": mathvista_rows,
}
