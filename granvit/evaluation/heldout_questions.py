"""Region questions on images that no model was trained on, and answers to them as JSON lines.

Without torch: what draws answers reads them here. A region is known by its image's key and its place among
the image's regions in the mixture.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from granvit.data.records.records import hash_key
from granvit.errors import GranvitError
from granvit.files import write_text

BBOX2CAPTION, CAPTION2BBOX = TASKS = ("bbox2caption", "caption2bbox")
_COLUMNS = ["key", "shard", "offset", "size", "width", "height", "qa"]
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class HeldOutRegion:
    """A region's ``text`` and ``box`` (pixels), and task -> (question, true answer)."""

    text: str
    box: list[float]
    asked: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class HeldOutImage:
    """One row of the mixture; its file is ``size`` bytes at ``offset`` of the ``shard``."""

    key: str
    shard: str
    offset: int
    size: int
    width: int
    height: int
    regions: list[HeldOutRegion]

    @property
    def source(self) -> str:
        """The source's name: that of the shard's folder."""
        return Path(self.shard).parent.name


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


def heldout_images(mixture: str | Path, keys: Collection[str] | None = None) -> Iterator[HeldOutImage]:
    """The images of a held-out mixture, in its order; only those of ``keys`` where given.

    Raises GranvitError for a file that is missing or not a mixture.
    """
    wanted = None if keys is None else pa.array(sorted(keys), pa.string())
    try:
        with pq.ParquetFile(mixture) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS):
                if wanted is not None:
                    batch = batch.filter(pc.is_in(batch.column("key"), wanted))
                for row in batch.to_pylist():
                    regions = _regions(row.pop("qa"))
                    yield HeldOutImage(**row, regions=regions)
    except (FileNotFoundError, pa.ArrowInvalid, TypeError) as error:
        raise GranvitError(
            f"{mixture}: not a mixture of held-out questions ({error}); make it with `snakemake {mixture}`"
        ) from error


def _regions(pairs: Iterable[Mapping[str, Any]]) -> list[HeldOutRegion]:
    """A region's two questions are about the same box; its text is the answer to the first one."""
    regions: list[HeldOutRegion] = []
    for pair in pairs:
        task, asked = pair["task"], (pair["question"], pair["answer"])
        if task == BBOX2CAPTION:
            regions.append(HeldOutRegion(pair["answer"], pair["box"], {task: asked}))
        elif task == CAPTION2BBOX:
            same = (r for r in regions if r.box == pair["box"] and task not in r.asked)
            if region := next(same, None):
                region.asked[task] = asked
    return regions


def choose_questions(
    mixture: str | Path, data_types: Mapping[str, str], number: int
) -> list[HeldOutQuestion]:
    """Both tasks' questions on at most ``number`` regions of natural images and as many of pages: those of
    the smallest hash, in the order of key and region, task behind task.

    ``data_types``: source -> natural or ocr. Raises GranvitError as ``heldout_images`` does, and for a source
    that ``data_types`` lacks.
    """
    found: list[tuple[HeldOutImage, int, str]] = []
    for data_type in sorted(set(data_types.values())):
        regions = (
            (hash_key(question_index(image.key, at), "heldout answers"), image.key, at, image)
            for image in heldout_images(mixture)
            if _type_of(image, data_types, mixture) == data_type
            for at, region in enumerate(image.regions)
            if len(region.asked) == len(TASKS)
        )
        chosen = heapq.nsmallest(number, regions, key=lambda found: found[:3])
        found += [(image, at, data_type) for _, _, at, image in chosen]
    found.sort(key=lambda chosen: (chosen[0].key, chosen[1]))
    return [HeldOutQuestion(image, at, task, kind) for task in TASKS for image, at, kind in found]


def _type_of(image: HeldOutImage, data_types: Mapping[str, str], mixture: str | Path) -> str:
    if image.source not in data_types:
        raise GranvitError(
            f"{mixture}: image {image.key!r} is of source {image.source!r}, which the sources file lacks; "
            f"known: {', '.join(data_types)}; make the mixture again"
        )
    return data_types[image.source]


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
