"""Parquet as Hugging Face's datasets are published: images inside the files, in a column of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.data.records.records import Region, Reject, Rejected, rejecting
from granvit.data.sources.adapters.folder import container_files
from granvit.data.sources.adapters.parquet_columns import (
    EXPECTED,
    LISTS,
    category_names,
    image_column,
    is_kind,
    kind_of,
    named_category,
    outside_lists,
    steps_to,
)
from granvit.data.sources.box_formats import LISTED
from granvit.data.sources.items import Place, RawItem, add_regions, box, identifier, size, text, turns
from granvit.data.sources.turn_boxes import OPTION as TURN_BOXES
from granvit.errors import GranvitError

# pyarrow and fsspec are imported where they are used: every `snakemake -n` imports this file for its options.
if TYPE_CHECKING:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

OPTIONS = {
    "files": "which files, as a pattern (**/*.parquet)",
    "image": "the column of images or lists of images (the only one that holds images)",
    "id": "the column of ids that no two images share (file name and row)",
    "caption": "the column of global captions",
    "boxes": "the column of lists of boxes; a dot goes into an object, or the objects of a list",
    "texts": "the column of lists of the boxes' texts, or of numbers that the file names; a dot as for boxes",
    "box_format": f"{LISTED} (xyxy)",
    "conversations": "the column of LLaVA's turns",
    "width": "the column of the width that boxes refer to",
    "height": "the column of the height that boxes refer to",
} | TURN_BOXES
IMAGE_ROWS = 8  # at a time where images are read: they are in memory together
_ROWS = 1000  # at a time otherwise

_BROKEN = "\udc80"  # stands for a string that is no UTF-8, and is judged where it is used


def read_parquet(root: Path | str, settings: dict[str, str]) -> Iterator[RawItem]:
    """One item an image: ``{file}/{row}``, or the ``id`` column; lists of images add ``/{part}``.

    ``root`` is a folder or any URL that fsspec opens, ``hf://datasets/{owner}/{name}`` among them. The
    columns that hold image bytes are not read here.
    """
    import pyarrow as pa

    files, folder = open_folder(root)
    pattern = settings.get("files", "**/*.parquet")
    remote = "://" in str(root)
    if remote:
        names = _remote_files(files, folder, pattern, root)
    else:  # a folder's own name may hold what means something in a pattern: `images [2024]`
        names = container_files(Path(root), pattern, ".parquet")
    for name in names:
        path = f"{folder}/{name}"
        try:
            with files.open(path, "rb") as file:
                yield from _rows(parquet_file(file), name, settings)
        except (OSError, pa.ArrowInvalid) as error:
            remedy = "run again" if remote else "fetch it again"
            raise GranvitError(f"{path}: no whole Parquet file ({error}); {remedy}") from error


def _remote_files(files: fsspec.AbstractFileSystem, folder: str, pattern: str, root: Path | str) -> list[str]:
    """As ``container_files``, by an address."""
    try:
        found = set()
        for path, facts in files.glob(f"{folder}/{pattern}", detail=True).items():
            if facts["type"] == "directory":
                found |= {inside for inside in files.find(path) if inside.endswith(".parquet")}
            else:
                found.add(path)
    except Exception as error:  # each file system has errors of its own
        raise GranvitError(
            f"{root}: cannot be listed ({error}); check the address and the network, and for a data set that "
            "asks for it run `hf auth login`"
        ) from error
    return sorted(path.removeprefix(folder).lstrip("/") for path in found)


def open_folder(root: Path | str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a folder or URL, and the folder's path in it."""
    import fsspec

    files, folder = fsspec.core.url_to_fs(str(root))
    return files, folder.rstrip("/")


def parquet_file(file: Any) -> pq.ParquetFile:
    """An open Parquet file that is read a little at a time."""
    import pyarrow.parquet as pq

    # Otherwise pyarrow reads the columns of all row groups ahead: a whole file of images.
    return pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


def _rows(parquet: pq.ParquetFile, file: str, settings: dict[str, str]) -> Iterator[RawItem]:
    if not parquet.metadata.num_rows:
        return  # writers guess types from values, so here they say nothing
    schema = parquet.schema_arrow
    columns = {option: settings[option] for option in EXPECTED if option in settings}
    image = columns["image"] = settings.get("image") or image_column(schema, file)
    kinds = {option: kind_of(schema, file, option, column) for option, column in columns.items()}
    one = not is_kind(kinds["image"], *LISTS, "null")  # image a row: nothing of its column is read
    unread = [option for option, kind in kinds.items() if is_kind(kind, "null")] + ["image"] * one
    read = {option: column for option, column in columns.items() if option not in unread}
    names = category_names(schema, file, columns["texts"]) if "texts" in read else None
    for row, values in enumerate(_values(parquet, read)):
        if names is not None and isinstance(values["texts"], list):
            values["texts"] = [named_category(names, value) for value in values["texts"]]
        yield from _items(file, row, image, None if one else values.get("image", 0), values, settings)


def column_of(batch: pa.RecordBatch, column: str) -> pa.Array:
    """The values of a column by the name that an option gives it; where that goes on into the objects of a
    list, the list."""
    import pyarrow.compute as pc

    return pc.struct_field(batch.to_struct_array(), outside_lists(batch.schema, column))


def _inside(value: Any, steps: list[str]) -> Any:
    """The values at ``steps`` inside the objects of a list."""
    for name in steps:
        if isinstance(value, list):
            value = [part.get(name) if isinstance(part, dict) else None for part in value]
    return value


def _values(parquet: pq.ParquetFile, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each row's values by option, of ``image`` how many; nothing at all is read for no columns."""
    if not columns:
        yield from ({} for _ in range(parquet.metadata.num_rows))
        return
    leaves, rows = dict(columns), _ROWS
    if "image" in columns:
        leaf = _lengths_leaf(parquet, columns["image"])
        leaves["image"], rows = leaf.path, IMAGE_ROWS if _is_bytes(leaf) else _ROWS
    for option, column in columns.items():
        if option != "image":
            leaves[option] = ".".join(outside_lists(parquet.schema_arrow, column))
    for batch in parquet.iter_batches(rows, columns=list(dict.fromkeys(leaves.values()))):
        found = []
        for option, column in columns.items():
            values = (_lengths if option == "image" else _python_values)(column_of(batch, column))
            if steps := steps_to(batch.schema, column)[len(outside_lists(batch.schema, column)) :]:
                values = [_inside(value, steps) for value in values]
            found.append(values)
        for row in zip(*found, strict=True):
            yield dict(zip(columns, row, strict=True))


def _lengths(lists: pa.Array) -> list[int]:
    import pyarrow.compute as pc

    return [length or 0 for length in pc.list_value_length(lists).to_pylist()]


def _python_values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_python_value(value) for value in column]


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return _BROKEN


def _items(
    file: str, row: int, image: str, parts: int | None, values: dict[str, Any], settings: dict[str, str]
) -> Iterator[RawItem]:
    name = f"{file.removesuffix('.parquet')}/{row}"
    if "id" in settings:
        name = identifier(values.get("id")) or None
    items = [
        RawItem(f"{name}/{part}", Place(file, row=row, column=image, part=part)) for part in range(parts or 0)
    ]
    if name is None:
        items = [RawItem(f"{file}/{row}", Place(file, problem="no_id"))]
    elif parts is None:
        items = [RawItem(name, Place(file, row=row, column=image))]
    elif not parts:
        items = [RawItem(name, None)]
    _describe(items[0], values, settings)
    if len(items) > 1:
        _forget(items[0])
    elif items[0].place is None or items[0].place.problem:  # its regions are lost with it, and counted so
        items[0].rejects = [reject for reject in items[0].rejects if reject.regions]
    yield from items


def _forget(item: RawItem) -> None:
    """What is said about several pages belongs to none of them alone: it is counted with the first."""
    lost = ["caption"] * (item.caption is not None) + ["conversation"] * bool(item.conversations)
    item.rejects += [Reject(what, "several_images") for what in lost]
    item.rejects += [Reject("region", "several_images", 1)] * len(item.regions)
    item.caption, item.regions, item.conversations, item.stated_size = None, [], [], None


def _describe(item: RawItem, values: dict[str, Any], settings: dict[str, str]) -> None:
    with rejecting(item.rejects, "caption"):
        item.caption = text(values.get("caption"))
    boxes, texts = values.get("boxes"), values.get("texts")
    paired = isinstance(boxes, list) and isinstance(texts, list) and len(texts) == len(boxes)
    of_boxes = iter(texts) if paired else repeat(texts)

    def region(value: object) -> Region:
        words = next(of_boxes)
        if words is not None and not paired:
            raise Rejected("unpaired_text")
        return Region(box(value, settings.get("box_format", "xyxy")), text(words) or "")

    add_regions(item, boxes, region)
    item.stated_size = size(values.get("width"), values.get("height"))
    if "conversations" in settings:
        with rejecting(item.rejects, "conversation"):
            item.conversations = turns(values.get("conversations"))


def _lengths_leaf(parquet: pq.ParquetFile, image: str) -> pq.ColumnSchema:
    """The smallest leaf that tells how many images each list holds: their paths, where they have any."""
    leaves = map(parquet.schema.column, range(len(parquet.schema)))
    return min((leaf for leaf in leaves if f"{leaf.path}.".startswith(f"{image}.")), key=_is_bytes)


def _is_bytes(leaf: pq.ColumnSchema) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
