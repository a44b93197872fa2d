"""A benchmark of one's own: questions about the boxes of images that were held out of every mixture.

Two files of VLMEvalKit's form and a list of both as in config/benchmarks.tsv: what is in a box (ANLS, since
texts of regions are names, lines or short phrases), and where the thing of a text is (IoU 0.5). A source is a
split, so that each has a score of its own.
"""

from __future__ import annotations

import base64
import csv
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from granvit.data.records.records import hash_key
from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.heldout_questions import question_index
from granvit.evaluation.heldout_regions import (
    BBOX2CAPTION,
    CAPTION2BBOX,
    TASKS,
    HeldOutImage,
    HeldOutRegion,
    heldout_images,
)
from granvit.evaluation.tsv_files import MISSING, file_md5
from granvit.files import whole_folder

LIST = "benchmarks.tsv"
_COLUMNS = ("index", "image", "question", "answer", "width", "height", "split")
_LISTED = [column.name for column in fields(Benchmark) if column.name != "row"]
_SUFFIX = {BBOX2CAPTION: "describe", CAPTION2BBOX: "locate"}
_RULES = {BBOX2CAPTION: ("anls", 48), CAPTION2BBOX: ("refcoco_iou50", 32)}  # and tokens of an answer
_CAPABILITY = "Fine-Grained"

_Asked = tuple[HeldOutImage, int]  # an image, and the place of a region on it


def write_benchmark(mixture: str | Path, out: str | Path, name: str, number: int) -> dict[str, int]:
    """Write the folder ``out``: ``{name}-describe.tsv``, ``{name}-locate.tsv`` and the list of them; how many
    questions each has.

    ``mixture``: that of the held-out images; ``number``: of questions of a task about a source at most, those
    of the smallest hash. Only texts that stand once on their image are to be located: of two *person* nobody
    can say which is meant. Raises GranvitError for a folder that is there, a name that names no file, and a
    mixture that is none or has no regions.
    """
    out = Path(out)
    if out.exists():
        raise GranvitError(f"{out}: is there already; give another folder in --out, or remove it")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise GranvitError(f"--name {name}: names files; use letters, digits, - and _ only")
    made: dict[str, int] = {}
    with whole_folder(out) as folder:
        lines = []
        for task in TASKS:
            asked = _chosen(mixture, task, number)
            if not asked:
                continue
            title, (rule, tokens) = f"{name}-{_SUFFIX[task]}", _RULES[task]
            path = folder / f"{title}.tsv"
            _write(path, _COLUMNS, _rows(asked, task))
            md5 = file_md5(path)
            lines.append((title, path.name, "", "", rule, "plain", _CAPABILITY, tokens, md5))
            made[title] = len(asked)
        if not made:
            raise GranvitError(
                f"{mixture}: no held-out image has a region to ask about; raise data.heldout_share, or add "
                "images"
            )
        _write(folder / LIST, _LISTED, lines)
    return made


def _chosen(mixture: str | Path, task: str, number: int) -> list[_Asked]:
    """The regions to ask about, in the order of image and region."""
    smallest: dict[str, list[tuple[int, str, int, HeldOutImage]]] = {}
    for image in heldout_images(mixture):
        of_source = smallest.setdefault(image.source, [])
        for at in _askable(image.regions, task):
            place = -hash_key(question_index(image.key, at), f"benchmark {task}")
            add = heapq.heappush if len(of_source) < number else heapq.heappushpop
            add(of_source, (place, image.key, at, image))
    chosen = [one[1:] for of_source in smallest.values() for one in of_source]
    return [(image, at) for _, at, image in sorted(chosen, key=lambda one: one[:2])]


def _askable(regions: list[HeldOutRegion], task: str) -> Iterator[int]:
    texts = Counter(region.text.casefold() for region in regions)
    for at, region in enumerate(regions):
        is_one = task == BBOX2CAPTION or texts[region.text.casefold()] == 1
        if task in region.asked and is_one and region.text not in MISSING:
            yield at


def _rows(asked: list[_Asked], task: str) -> Iterator[tuple[object, ...]]:
    """Rows of a TSV; an image stands in the first of its rows, and the others name that one."""
    first: dict[str, int] = {}
    for index, (image, at) in enumerate(asked):
        if image.key in first:
            picture = str(first[image.key])
        else:
            first[image.key], picture = index, base64.b64encode(image.read()).decode()
        question, answer = image.regions[at].asked[task]
        if task == CAPTION2BBOX:
            answer = str([round(value, 2) for value in image.regions[at].box])
        elif answer.startswith("["):  # would be read as a list of answers
            answer = str([answer])
        yield index, picture, question, answer, image.width, image.height, image.source


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
