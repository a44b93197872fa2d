"""Export of packed shards or mixtures to what other frameworks read: LLaVA's conversations, COCO's instances.

Both write a folder: ``images/`` with the bytes as they came, and one JSON file, an image at a time. The
folder appears under its name when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from granvit.boxes import area, to_xywh
from granvit.data.mixtures.mixture import TASKS, Row, conversation_questions, index_rows, region_questions
from granvit.data.records.images import EXTENSIONS, open_image
from granvit.data.records.prompts import caption2bbox_question
from granvit.data.records.records import readable_key
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError
from granvit.files import whole_folder
from granvit.progress import Progress

FORMATS = ("llava", "coco")
_MARK = "<image>"
_LONGEST_NAME = 200  # file systems end at 255 bytes
# Texts of regions are names of categories where they are few and come again (LVIS has 1,203 categories).
_MOST_CATEGORIES = 2000
_BOXES_A_CATEGORY = 2
_REGION = "region"  # the category of all boxes elsewhere


def export(
    inputs: Sequence[str | Path],
    out: str | Path,
    form: str,
    log: str | Path | None = None,
    sources: Collection[str] = (),
) -> int:
    """Write the images of shards (``.tar`` or the index beside it) or mixtures; how many were written.

    ``form``: ``llava``, ``conversations.json``, a list with one conversation an image, and one more where it
    has Caption2Bbox questions; ``coco``, ``instances.json``, boxes as x, y, width, height with their texts as
    ``caption``, and as categories where they are few. ``sources``: those whose images are wanted, where not
    all are. Boxes are pixels of the image as shown: a reader that ignores EXIF's orientation has to apply
    it first. Raises GranvitError where ``out`` exists or cannot be made, an input is none of ours or has
    no image of a source that is wanted, an image comes twice, or its bytes are not those of the index.
    """
    writers = {"llava": _write_llava, "coco": _write_coco}
    if form not in writers:
        raise GranvitError(f"export: format is {form!r}; expected {' or '.join(FORMATS)}")
    progress = Progress(_count(inputs, sources), f"export {form}", "images", log)
    with _new_folder(Path(out)) as folder:
        (folder / "images").mkdir()
        return writers[form](_with_files(_rows(inputs, sources), folder / "images", progress), folder)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    if out.exists():
        raise GranvitError(f"{out}: exists already; remove it or name another folder")
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(whole_folder(out))
        except OSError as error:
            raise GranvitError(f"{out}: cannot be made ({error.strerror}); name another folder") from error
        yield folder


def index_file(path: str | Path) -> Path:
    """The index of a packed shard, which may be named by its tar, or a mixture. Raises GranvitError."""
    path = Path(path)
    index = path.with_suffix(".parquet") if path.suffix == ".tar" else path
    if not index.is_file():
        raise GranvitError(f"{index}: no such file; give packed shards with the index beside, or mixtures")
    return index


def _count(inputs: Sequence[str | Path], sources: Collection[str]) -> int:
    """How many images will be written. Raises GranvitError where one of ``sources`` has none."""
    found: Counter[str] = Counter()
    total = 0
    for path in map(index_file, inputs):
        try:
            total += pq.read_metadata(path).num_rows
            if sources:
                found.update(source_of(row["key"]) for row in index_rows(path, ["key"]))
        except pa.ArrowInvalid as error:
            raise GranvitError(f"{path}: not Parquet ({error}); give a packed shard or a mixture") from None
    for source in (source for source in sources if not found[source]):
        raise GranvitError(
            f"{', '.join(map(str, inputs))}: no image of source {source!r}; they hold those of "
            f"{', '.join(sorted(+found)) or 'none'}"
        )
    return sum(found[source] for source in set(sources)) if sources else total


def source_of(key: str) -> str:
    """The source that a key begins with; a mixture has no other word of it."""
    return readable_key(key.partition("__")[0])


def _rows(inputs: Sequence[str | Path], sources: Collection[str]) -> Iterator[Row]:
    """Rows of indexes, with the ``shard`` they belong to, and of mixtures, with their ``qa``."""
    for path in map(index_file, inputs):
        names = set(pq.read_schema(path).names)
        if not ({"key", "offset", "size"} <= names and names & {"qa", "regions"}):
            raise GranvitError(f"{path}: neither a packed shard's index nor a mixture")
        yield from (row for row in index_rows(path) if not sources or source_of(row["key"]) in sources)


def _with_files(rows: Iterable[Row], images: Path, progress: Progress) -> Iterator[Row]:
    """Each row with its image's ``file``, which is written on the way."""
    for number, row in enumerate(rows, 1):
        data = _image_of(row)
        with open_image(data) as image:
            name = f"{_stem(row['key'])}.{EXTENSIONS[image.format]}"
        try:
            with open(images / name, "xb") as file:
                file.write(data)
        except FileExistsError:
            raise GranvitError(
                f"image {readable_key(row['key'])!r} comes twice; export mixtures and shards apart, each "
                "input once"
            ) from None
        yield row | {"file": name}
        progress.update(number)


def _image_of(row: Row) -> bytes:
    """The bytes of a row's image. Raises GranvitError where its tar is not there, or is of another build."""
    try:
        data = read_image_bytes(row["shard"], row["offset"], row["size"])
    except OSError as error:
        raise GranvitError(
            f"{row['shard']}: cannot be read ({error.strerror}); a mixture names its shards as seen from the "
            "repository's root: run the export there, with the tars in their places"
        ) from error
    if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
        raise GranvitError(
            f"{row['shard']}: image {readable_key(row['key'])!r} has other bytes than its index says; the "
            "two are of different builds: delete both and make them again"
        )
    return data


def _stem(key: str) -> str:
    """The key as a file name. A longer one than file systems take ends in its hash."""
    if len(key) <= _LONGEST_NAME:
        return key
    return f"{key[: _LONGEST_NAME - 17]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _write_llava(rows: Iterable[Row], folder: Path) -> int:
    """Fields that LLaVA's loader reads: ``image``, ``conversations`` with ``from`` and ``value``; ``id``."""
    number = entries = 0
    with open(folder / "conversations.json", "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for row in rows:
            qa = row["qa"] if "qa" in row else region_questions(row, TASKS) + conversation_questions(row)
            for name, part in _apart(qa).items():
                entry = {"id": row["key"] + name, "image": row["file"], "conversations": _turns(part)}
                file.write(("," if entries else "") + "\n" + json.dumps(entry, ensure_ascii=False))
                entries += 1
            if qa:
                number += 1
            else:
                (folder / "images" / row["file"]).unlink()
        file.write("\n]\n")
    return number


def _apart(qa: list[Row]) -> dict[str, list[Row]]:
    """An image's questions as conversations, by what is put behind their id. Turns see those before them, so
    the boxes that Caption2Bbox asks for must not stand in Bbox2Caption's questions of the same conversation.
    """
    parts: dict[str, list[Row]] = {}
    for item in qa:
        parts.setdefault("-caption2bbox" if item["task"] == "caption2bbox" else "", []).append(item)
    return parts


def _turns(qa: list[Row]) -> list[dict[str, str]]:
    """Human and gpt in turn, the picture's mark before the first question.

    The loader puts a picture wherever the mark stands, so one inside a text gets a blank.
    """
    turns = []
    for item in qa:
        question, answer = (item[side].replace(_MARK, "< image>") for side in ("question", "answer"))
        mark = "" if turns else f"{_MARK}\n"
        turns += [{"from": "human", "value": mark + question}, {"from": "gpt", "value": answer}]
    return turns


def _write_coco(rows: Iterable[Row], folder: Path) -> int:
    """``images`` and ``annotations`` are written side by side and joined: COCO has two long lists, and only
    behind the last box is it known whether texts are categories.
    """
    annotations, categories = folder / ".annotations", _Categories()
    image_id = annotation_id = 0
    with (
        open(folder / "instances.json", "w", encoding="utf-8", newline="\n") as file,
        open(annotations, "w+", encoding="utf-8", newline="\n") as others,
    ):
        file.write('{"images": [')
        for image_id, row in enumerate(rows, 1):
            image = {"id": image_id, "file_name": row["file"], "width": row["width"]}
            image |= {"height": row["height"], "key": row["key"]}
            caption, regions = _described(row)
            image |= {"caption": caption} if caption else {}
            file.write(("," if image_id > 1 else "") + "\n" + json.dumps(image, ensure_ascii=False))
            for region in regions:
                annotation_id += 1
                annotation = {"id": annotation_id, "image_id": image_id} | _annotation(region)
                text = json.dumps(annotation, ensure_ascii=False)
                others.write(f"{categories.number(region['text'])} {text}\n")
        file.write('\n],\n"annotations": [')
        others.seek(0)
        names = categories.write(others, file)
        entries = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(names, 1)]
        file.write('\n],\n"categories": ' + json.dumps(entries, ensure_ascii=False) + "}\n")
    annotations.unlink()
    return image_id


class _Categories:
    """The texts of regions, as far as they may be the names of categories."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._boxes = 0

    def number(self, text: str) -> int:
        """That of a text, in the order in which they came; 0 beyond the most categories that there may be."""
        self._boxes += 1
        if text not in self._numbers and len(self._numbers) > _MOST_CATEGORIES:
            return 0
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def write(self, lines: TextIO, file: TextIO) -> list[str]:
        """Put the annotations, each behind its text's number in ``lines``, into ``file`` with the category of
        each; the names of categories, by which they are in order, the first one's id is 1."""
        few = len(self._numbers) <= min(_MOST_CATEGORIES, self._boxes // _BOXES_A_CATEGORY)
        names = sorted(self._numbers) if few and self._numbers else [_REGION]
        ids = {self._numbers.get(name): number for number, name in enumerate(names, 1)}
        for position, line in enumerate(lines):
            number, _, annotation = line.rstrip("\n").partition(" ")
            file.write(("," if position else "") + "\n" + annotation[:-1])
            file.write(f', "category_id": {ids.get(int(number), 1)}}}')
        return names


def _annotation(region: Row) -> Row:
    score = {} if region.get("score") is None else {"score": region["score"]}
    return {
        "bbox": to_xywh(region["box"]),
        "area": area(region["box"]),
        "iscrowd": 0,
        "caption": region["text"],
    } | score


def _described(row: Row) -> tuple[str | None, list[Row]]:
    """An image's global caption and its regions, each once: a mixture may ask twice about one."""
    if "qa" not in row:
        return row["caption"], row["regions"]
    caption, regions = None, {}
    for item in row["qa"]:
        if item["task"] == "global_caption":
            caption = item["answer"]
        elif item["task"] == "bbox2caption":
            regions[tuple(item["box"]), item["answer"]] = None
        elif item["task"] == "caption2bbox":
            regions[tuple(item["box"]), item["question"].removeprefix(caption2bbox_question(""))] = None
    return caption, [{"box": list(box), "text": text} for box, text in regions]
