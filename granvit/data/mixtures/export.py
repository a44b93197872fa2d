"""Export of packed shards or mixtures to what other frameworks read: LLaVA's conversations, COCO's instances.

Both write a folder: ``images/`` with the bytes as they came, and one JSON file, an image at a time. The
folder appears under its name when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from granvit.boxes import area, to_xywh
from granvit.data.mixtures.mixture import TASKS, Row, conversation_questions, index_rows, region_questions
from granvit.data.records.images import EXTENSIONS, open_image
from granvit.data.records.prompts import caption2bbox_question
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError
from granvit.files import whole_folder
from granvit.progress import Progress

FORMATS = ("llava", "coco")
_MARK = "<image>"
_LONGEST_NAME = 200  # file systems end at 255 bytes


def export(inputs: Sequence[str | Path], out: str | Path, form: str, log: str | Path | None = None) -> int:
    """Write the images of shards (``.tar`` or the index beside it) or mixtures; how many were written.

    ``form``: ``llava``, ``conversations.json``, a list with one conversation an image, and one more where it
    has Caption2Bbox questions; ``coco``, ``instances.json``, boxes as x, y, width, height with their texts as
    ``caption``. Boxes are pixels of the image as shown: a reader that ignores EXIF's orientation has to apply
    it first. Raises GranvitError where ``out`` exists or cannot be made, an input is none of ours, an image
    comes twice, or its bytes are not those of the index.
    """
    writers = {"llava": _write_llava, "coco": _write_coco}
    if form not in writers:
        raise GranvitError(f"export: format is {form!r}; expected {' or '.join(FORMATS)}")
    progress = Progress(_count(inputs), f"export {form}", "images", log)
    with _new_folder(Path(out)) as folder:
        (folder / "images").mkdir()
        return writers[form](_with_files(_rows(inputs), folder / "images", progress), folder)


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


def _count(inputs: Sequence[str | Path]) -> int:
    try:
        return sum(pq.read_metadata(index_file(path)).num_rows for path in inputs)
    except pa.ArrowInvalid as error:
        raise GranvitError(f"{', '.join(map(str, inputs))}: not Parquet ({error})") from None


def _rows(inputs: Sequence[str | Path]) -> Iterator[Row]:
    """Rows of indexes, with the ``shard`` they belong to, and of mixtures, with their ``qa``."""
    for path in map(index_file, inputs):
        names = set(pq.read_schema(path).names)
        if not ({"key", "offset", "size"} <= names and names & {"qa", "regions"}):
            raise GranvitError(f"{path}: neither a packed shard's index nor a mixture")
        yield from index_rows(path)


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
                f"image {row['key']!r} comes twice; export mixtures and shards apart, each input once"
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
            f"{row['shard']}: image {row['key']!r} has other bytes than its index says; the two are of "
            "different builds: delete both and make them again"
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
    """``images`` and ``annotations`` are written side by side and joined: COCO has two long lists."""
    annotations = folder / ".annotations"
    image_id = annotation_id = 0
    with (
        open(folder / "instances.json", "w", encoding="utf-8", newline="\n") as file,
        open(annotations, "w+", encoding="utf-8", newline="\n") as others,
    ):
        file.write('{"categories": [{"id": 1, "name": "region", "supercategory": ""}],\n"images": [')
        for image_id, row in enumerate(rows, 1):
            image = {"id": image_id, "file_name": row["file"], "width": row["width"]}
            image |= {"height": row["height"], "key": row["key"]}
            caption, regions = _described(row)
            image |= {"caption": caption} if caption else {}
            file.write(("," if image_id > 1 else "") + "\n" + json.dumps(image, ensure_ascii=False))
            for region in regions:
                annotation_id += 1
                annotation = {"id": annotation_id, "image_id": image_id} | _annotation(region)
                others.write(("," if annotation_id > 1 else "") + "\n")
                others.write(json.dumps(annotation, ensure_ascii=False))
        file.write('\n],\n"annotations": [')
        others.seek(0)
        shutil.copyfileobj(others, file)
        file.write("\n]}\n")
    annotations.unlink()
    return image_id


def _annotation(region: Row) -> Row:
    score = {} if region.get("score") is None else {"score": region["score"]}
    return {
        "category_id": 1,
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
