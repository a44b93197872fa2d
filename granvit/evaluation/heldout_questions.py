"""Region questions on images that no model was trained on, and answers to them as JSON lines.

Without torch: what draws answers reads them here. A region is known by its image's key and its place among
the image's regions in the mixture.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from granvit.data.records.records import hash_key
from granvit.errors import GranvitError
from granvit.evaluation.heldout_regions import TASKS, HeldOutImage, heldout_images
from granvit.files import write_text


@dataclass(frozen=True)
class HeldOutQuestion:
    """A question about one region, known by its key, its region's place and its task."""

    image: HeldOutImage
    region: int
    task: str
    data_type: str

    @property
    def index(self) -> str:
        return question_index(self.image.key, self.region)

    @property
    def text(self) -> str:
        return self.image.regions[self.region].asked[self.task][0]

    @property
    def expected(self) -> str:
        """The true answer, as a model is trained to give it."""
        return self.image.regions[self.region].asked[self.task][1]


@dataclass(frozen=True)
class HeldOutAnswer:
    """One line of an answer file.

    ``gold_box``, ``box``: pixels of the original image; ``box`` is None where the answer is no box, and for
    captions; ``iou`` (0-1; 0 without a box) is measured for Caption2Bbox, ``rouge_l`` (0-1) for Bbox2Caption.
    """

    key: str
    region: int
    source: str
    data_type: str
    width: int
    height: int
    task: str
    question: str
    gold_text: str
    gold_box: list[float]
    answer: str
    box: list[float] | None
    iou: float | None
    rouge_l: float | None

    @property
    def index(self) -> str:
        return question_index(self.key, self.region)

    @property
    def hash(self) -> int:
        """What breaks ties: the same for all models, and for both tasks."""
        return hash_key(self.index, "heldout answers")


def question_index(key: str, region: int) -> str:
    """What a region is called in files and figures."""
    return f"{key} #{region}"


def choose_questions(
    mixture: str | Path, data_types: Mapping[str, str], number: int
) -> list[HeldOutQuestion]:
    """Both tasks' questions on at most ``number`` regions of natural images and as many of pages: those of
    the smallest hash, in the order of key and region, task behind task.

    ``data_types``: source -> natural or ocr. Raises GranvitError as ``heldout_images`` does, and for a source
    that it lacks.
    """
    found: list[tuple[HeldOutImage, int, str]] = []
    for data_type in sorted(set(data_types.values())):
        regions = (
            (hash_key(question_index(image.key, at), "heldout answers"), image.key, at, image)
            for image in heldout_images(mixture)
            if image.data_type(data_types) == data_type
            for at, region in enumerate(image.regions)
            if len(region.asked) == len(TASKS)
        )
        chosen = heapq.nsmallest(number, regions, key=lambda found: found[:3])
        found += [(image, at, data_type) for _, _, at, image in chosen]
    found.sort(key=lambda chosen: (chosen[0].key, chosen[1]))
    return [HeldOutQuestion(image, at, task, kind) for task in TASKS for image, at, kind in found]


def write_answers(path: str | Path, answers: Iterable[HeldOutAnswer]) -> None:
    """One JSON object a line."""
    lines = (json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
    write_text(path, "".join(lines))


def read_answers(path: str | Path) -> list[HeldOutAnswer]:
    """What ``write_answers`` wrote. Raises GranvitError for a file that is missing or holds anything else."""
    remedy = f"make it again with `snakemake {path}`"
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # answers may hold other line breaks
    except FileNotFoundError:
        raise GranvitError(f"{path}: no answers there; {remedy}") from None
    names = {field.name for field in fields(HeldOutAnswer)}
    answers = []
    for number, line in enumerate(lines, 1):
        if line:
            row = _parsed(line)
            if row.keys() != names:
                raise GranvitError(f"{path}: line {number}: not an answer to a held-out question; {remedy}")
            answers.append(HeldOutAnswer(**row))
    return answers


def _parsed(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}
