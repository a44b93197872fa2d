"""The miniature benchmarks that have a structure of their own.

RefCOCO's splits, MMVP's pairs, HallusionBench's sets and figures, MMBench's rollings, MMMU's marks and
several images, MathVista's question types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice

from granvit.data.records.prompts import caption2bbox_question
from granvit.miniature.benchmarks.rows import (
    NAMESPACE,
    Families,
    Letters,
    Picture,
    first_index,
    items,
    option_cells,
)
from granvit.miniature.questions import templates
from granvit.miniature.questions.asking import Asked, pick
from granvit.miniature.questions.scenes import VALUES, expression, name, value_of
from granvit.miniature.questions.templates import DOCUMENT_TEMPLATES, LETTERS, SCENE_TEMPLATES
from granvit.miniature.questions.variants import twin_document, twin_scene
from granvit.miniature.world.documents import make_document
from granvit.miniature.world.rendering import CANVAS, rng_for
from granvit.miniature.world.scenes import Scene, SceneObject, make_scene

Rows = Iterator[dict[str, object]]

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
        "colour": "attribute_recognition", "shape": "attribute_recognition",
        "texture": "attribute_recognition",
        "place": "object_localization", "count": "object_localization", "relation": "spatial_relationship",
        "same": "attribute_comparison", "kind": "image_style",
    },
    "rich": {"line": "ocr", "kind": "image_style"},
    "receipt": {"value": "ocr", "kind": "image_style"},
}  # fmt: skip

_MMMU_KINDS = ("scene", "chart", "diagram", "receipt", "table")
_MMMU: Families = {
    "scene": {"colour": "Art", "identity": "Art", "same": "Art", "relation": "Design"},
    "chart": {"value": "Economics", "label": "Economics", "difference": "Economics"},
    "diagram": {"labelled colour": "Biology", "labelled shape": "Biology", "label": "Biology"},
    "receipt": {"value": "Accounting", "label": "Accounting"},
    "table": {"value": "Finance", "label": "Finance", "difference": "Finance"},
}
_MMMU_L2 = {"Art": "Art & Design", "Design": "Art & Design", "Biology": "Science"}

_MATHVISTA_KINDS = ("chart", "table", "scene")
_MATHVISTA: Families = {
    "chart": dict.fromkeys(("value", "label", "difference", "higher"), "figure question answering"),
    "table": dict.fromkeys(("value", "label", "difference", "higher"), "math word problem"),
    "scene": {"count": "visual question answering"},
}


def _referents(group: str, questions: int) -> Iterator[tuple[Picture, Scene, SceneObject]]:
    """Objects to refer to, at most two of a scene, faces or others as the group asks."""
    faces, start, made = _REFCOCO_GROUPS[group][1], first_index(f"RefCOCO {group}"), 0
    for number in count():
        scene = make_scene(NAMESPACE, start + number)
        picture = Picture(scene)
        left = list(scene.objects)
        for _ in range(2):
            fitting = [thing for thing in left if (thing.shape == "face") == faces[made % len(faces)]]
            if fitting:
                thing = pick(rng_for("referent", group, made), fitting)
                left.remove(thing)
                yield picture, scene, thing
                made += 1
            if made == questions:
                return


def refcoco_rows(questions: int) -> Rows:
    """All eight splits, ``questions`` rows each.

    Every row holds its image: the toolkit renames RefCOCO's rows when it loads them, so a reference could not
    be read there.
    """
    index = count()
    for group, (splits, _) in _REFCOCO_GROUPS.items():
        for number, (picture, scene, thing) in enumerate(_referents(group, questions)):
            for split in splits:
                kind = _EXPRESSIONS[split.split("_")[0]]
                text = expression(scene.objects, thing, kind, rng_for("expression", split, number))
                yield {
                    "index": next(index), "image": picture.base64(), "question": caption2bbox_question(text),
                    "answer": str(list(thing.box)), "width": CANVAS, "height": CANVAS, "split": split,
                }  # fmt: skip


def _twins(benchmark: str, attributes: tuple[str, ...]) -> Iterator[tuple[Scene, Scene, str, str, str, str]]:
    """Endless pairs of scenes that differ in one attribute of one object.

    Yields both scenes, the attribute, the object's name without it, its value in the first and in the second.
    """
    start = first_index(benchmark)
    for number in count():
        scene, rng = make_scene(NAMESPACE, start + number), rng_for("twins", benchmark, number)
        attribute, thing = attributes[number % len(attributes)], pick(rng, scene.objects)
        text, old = name(scene.objects, thing, rng, without=attribute), value_of(thing, attribute)
        changes = [VALUES[attribute][int(i)] for i in rng.permutation(len(VALUES[attribute]))]
        changes = [new for new in changes if text and new != old]
        twins = [(twin_scene(scene, thing, attribute, new), new) for new in changes]
        for twin, new in twins:
            if twin is not None:
                yield scene, twin, attribute, text, old, new
                break


def mmvp_rows(questions: int) -> Rows:
    """Pairs of rows: one question, two pictures that differ in what it asks, the other answer."""
    letters = Letters("MMVP")
    pairs = islice(_twins("MMVP", ("colour", "texture", "shape")), -(-questions // 2))
    for number, (scene, twin, attribute, text, old, new) in enumerate(pairs):
        options, letter = letters.arrange(Asked(attribute, "", old, (new,)))
        for offset, (image, answer) in enumerate(((scene, letter), (twin, "B" if letter == "A" else "A"))):
            index = 2 * number + offset
            yield {
                "index": index, "image": Picture(image).cell(index),
                "question": SCENE_TEMPLATES[attribute].format(thing=text), **option_cells(options),
                "answer": answer,
            }  # fmt: skip


def _figure_sets() -> Iterator[tuple[str, list[Picture], list[str]]]:
    """Endless sets: kind, two figures, two questions, each of which is true of its own figure only."""
    for scene, twin, _, text, old, new in _twins("HallusionBench", ("colour", "texture")):
        pictures = [Picture(image) for image in (scene, twin)]
        texts = [SCENE_TEMPLATES["attribute"].format(thing=text, value=value) for value in (old, new)]
        yield "figure", pictures, texts


def _document_sets(kind: str) -> Iterator[tuple[str, list[Picture], list[str]]]:
    for index in count(first_index(f"HallusionBench {kind}")):
        document = make_document(NAMESPACE, index, kind)
        twin = twin_document(document)
        if twin is not None:
            pictures = [Picture(image) for image in (document, twin)]
            low, high = sorted(document.entries[:2], key=lambda entry: entry.value)
            pairs = ((high.label, low.label), (low.label, high.label))
            yield kind, pictures, [DOCUMENT_TEMPLATES["higher"].format(thing=a, other=b) for a, b in pairs]


def hallusion_rows(questions: int) -> Rows:
    """Sets of two figures and two yes/no questions; every question has both answers in its set."""
    figures = _figure_sets()
    sources = (figures, _document_sets("chart"), figures, _document_sets("table"))
    numbers: dict[str, int] = {}
    for turn in range(-(-questions // 4)):
        kind, pictures, texts = next(sources[turn % len(sources)])
        number = numbers[kind] = numbers.get(kind, -1) + 1
        for figure, picture in enumerate(pictures):
            for question, text in enumerate(texts):
                index = f"d_VD_{kind}_{number}_{figure}_{question}"
                yield {
                    "index": index, "image": picture.cell(index), "question": text,
                    "answer": "Yes" if figure == question else "No", "category": "VD",
                    "l2-category": f"VD_{kind}",
                }  # fmt: skip


def mmbench_rows(questions: int) -> Rows:
    """Every question with its options in each circular order; all must be answered rightly."""
    letters = Letters("MMBench")
    for index, item in enumerate(items("MMBench_DEV_EN", _MMBENCH_KINDS, _MMBENCH, questions, 2)):
        options, letter = letters.arrange(item.asked)
        for turn in range(len(options)):
            rolled = options[turn:] + options[:turn]
            yield {
                "index": index + turn * ROLLING, "image": item.picture.cell(index + turn * ROLLING),
                "question": item.asked.question, **option_cells(rolled),
                "answer": LETTERS[rolled.index(item.asked.answer)],
                "category": item.category, "l2-category": _MMBENCH_L2[item.category], "split": "dev",
            }  # fmt: skip


def mmmu_rows(questions: int) -> Rows:
    """``questions`` rows of the validation split after a sixth as many of dev.

    Of ten rows one is open and one has two images.
    """
    letters, dev = Letters("MMMU"), questions // 6
    stream = items("MMMU_DEV_VAL", _MMMU_KINDS, _MMMU, dev + questions, 2)
    for index, item in enumerate(stream):
        row = {"index": index, "split": "dev" if index < dev else "validation"}
        if index % 10 == 9:
            yield row | _two_image_cells(index, letters)
            continue
        options, letter = letters.arrange(item.asked) if index % 10 != 4 else ([], item.asked.answer)
        yield row | {
            "image": item.picture.cell(index), "image_path": f"{index}_1.jpg",
            "question": f"<image 1>{item.asked.question}",
            **option_cells(options), "answer": letter, "category": item.category,
            "l2-category": _MMMU_L2.get(item.category, "Business"),
        }  # fmt: skip


def _two_image_cells(index: int, letters: Letters) -> dict[str, object]:
    """A question that needs both of two images: which of them has a thing that the other lacks."""
    place = letters.place(2)
    scenes, things = [], []
    for attempt in count():
        scenes = [make_scene(NAMESPACE, first_index(f"MMMU pair {index} {attempt}") + i) for i in range(2)]
        absent = {(o.colour, o.shape) for o in scenes[1 - place].objects}
        things = [f"{o.colour} {o.shape}" for o in scenes[place].objects if (o.colour, o.shape) not in absent]
        if things:
            break
    images = [Picture(scene).base64() for scene in scenes]
    return {
        "image": repr(images), "image_path": repr([f"{index}_1.jpg", f"{index}_2.jpg"]),
        "question": f"<image 1><image 2>{SCENE_TEMPLATES['image'].format(thing=things[0])}",
        **option_cells(["first", "second"]), "answer": LETTERS[place], "category": "Design",
        "l2-category": "Art & Design",
    }  # fmt: skip


def mathvista_rows(questions: int) -> Rows:
    """Numbers as free-form integers and as choices in turn, the rest as choices; the question says which."""
    letters, numeric = Letters("MathVista"), 0
    for index, item in enumerate(items("MathVista_MINI", _MATHVISTA_KINDS, _MATHVISTA, questions, 3)):
        asked, numeric = item.asked, numeric + item.asked.answer.isdigit()
        row = {
            "index": index, "image": item.picture.cell(index), "answer": asked.answer, "task": item.category,
            "category": "general-vqa" if item.category.startswith("visual") else "math-targeted-vqa",
            "skills": repr(["arithmetic" if asked.family == "difference" else "statistical"]),
        }  # fmt: skip
        if asked.answer.isdigit() and numeric % 2:
            question = templates.math_integer_form(asked.question)
            yield row | {
                "question": question,
                "question_type": "free_form",
                "answer_type": "integer",
                "choices": "None",
            }
        else:
            options, letter = letters.arrange(asked)
            yield row | {
                "question": templates.math_choice_form(asked.question, options),
                "question_type": "multi_choice",
                "answer_type": "text", "choices": repr(options), "answer_option": letter,
            }  # fmt: skip


# file name -> columns, rows
BENCHMARKS: dict[str, tuple[tuple[str, ...], Callable[[int], Rows]]] = {
    "RefCOCO": (("index", "image", "question", "answer", "width", "height", "split"), refcoco_rows),
    "MMVP": (("index", "image", "question", "A", "B", "answer"), mmvp_rows),
    "HallusionBench": (("index", "image", "question", "answer", "category", "l2-category"), hallusion_rows),
    "MMBench_DEV_EN": (
        ("index", "image", "question", "hint", *LETTERS, "answer", "category", "l2-category", "split"),
        mmbench_rows,
    ),
    "MMMU_DEV_VAL": (
        ("index", "image", "image_path", "question", *LETTERS, "answer", "category", "l2-category", "split"),
        mmmu_rows,
    ),
    "MathVista_MINI": (
        (
            "index", "image", "question", "answer", "question_type", "answer_type", "choices",
            "answer_option",
            "precision", "task", "skills", "category",
        ),
        mathvista_rows,
    ),
}  # fmt: skip
