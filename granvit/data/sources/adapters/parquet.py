"""Parquet as Hugging Face's datasets are published: images inside the files, in a column of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.data.records.records import Region, Reject, Rejected, rejecting
from granvit.data.sources.adapters.folder import container_files
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
    "boxes": "the column of lists of boxes; a dot goes into an object",
    "texts": "the column of lists of the boxes' texts; a dot goes into an object",
    "box_format": f"{LISTED} (xyxy)",
    "conversations": "the column of LLaVA's turns",
    "width": "the column of the width that boxes refer to",
    "height": "the column of the height that boxes refer to",
} | TURN_BOXES
IMAGE_ROWS = 8  # at a time where images are read: they are in memory together
_ROWS = 1000  # at a time otherwise

# Families of types, by the names that pyarrow.types has for them.
_BYTES = ("binary", "large_binary", "binary_view")
_TEXT = ("string", "large_string", "string_view")
_NUMBERS = ("integer", "floating")
_LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
# What the columns that options name have to hold; values of other types would be passed over in silence.
_EXPECTED = {
    "image": ("bytes, objects with `bytes`, or lists of these", _BYTES),
    "id": ("text or numbers", _TEXT + _NUMBERS),
    "caption": ("text", _TEXT),
    "boxes": ("lists of boxes", _LISTS),
    "texts": ("lists of texts", _LISTS),
    "conversations": ("lists of turns", _LISTS),
    "width": ("numbers", _NUMBERS),
    "height": ("numbers", _NUMBERS),
}
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
    columns = {option: settings[option] for option in _EXPECTED if option in settings}
    image = columns["image"] = settings.get("image") or _image_column(schema, file)
    kinds = {option: _kind(schema, file, option, column) for option, column in columns.items()}
    one = not _is(kinds["image"], *_LISTS, "null")  # image a row: nothing of its column is read
    unread = [option for option, kind in kinds.items() if _is(kind, "null")] + ["image"] * one
    read = {option: column for option, column in columns.items() if option not in unread}
    for row, values in enumerate(_values(parquet, read)):
        yield from _items(file, row, image, None if one else values.get("image", 0), values, settings)


def _kind(schema: pa.Schema, file: str, option: str, column: str) -> pa.DataType:
    """The type of the column that ``option`` names; null also where an object around it is null throughout.

    Raises GranvitError where there is no such column, or where its type can never be what the option expects.
    """
    import pyarrow as pa

    kind, around = pa.struct(list(schema)), "the file"
    for name in _steps(schema, column):
        if _is(kind, "null"):
            return kind
        if not _is(kind, "struct") or kind.get_field_index(name) < 0:
            held = ", ".join(f.name for f in kind) if _is(kind, "struct") else f"no object, but {kind}"
            raise GranvitError(f"{file}: no column {column!r} (option `{option}`); {around} has {held}")
        kind, around = kind.field(name).type, repr(name)
    expected, family = _EXPECTED[option]
    judged = _innermost(kind) if option == "image" else kind
    if not (_is(judged, *family, "null", "dictionary") or isinstance(judged, pa.BaseExtensionType)):
        raise GranvitError(
            f"{file}: column {column!r} (option `{option}`) is of type {kind}, expected {expected}; name "
            "another column or leave the option out"
        )
    return kind


def _steps(schema: pa.Schema, column: str) -> list[str]:
    """A dot goes into an object, unless a column is itself called so."""
    return [column] if column in schema.names else column.split(".")


def column_of(batch: pa.RecordBatch, column: str) -> pa.Array:
    """The values of a column by the name that an option gives it."""
    import pyarrow.compute as pc

    return pc.struct_field(batch.to_struct_array(), _steps(batch.schema, column))


def _values(parquet: pq.ParquetFile, columns: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each row's values by option, of ``image`` how many; nothing at all is read for no columns."""
    if not columns:
        yield from ({} for _ in range(parquet.metadata.num_rows))
        return
    leaves, rows = dict(columns), _ROWS
    if "image" in columns:
        leaf = _lengths_leaf(parquet, columns["image"])
        leaves["image"], rows = leaf.path, IMAGE_ROWS if _is_bytes(leaf) else _ROWS
    for batch in parquet.iter_batches(rows, columns=list(dict.fromkeys(leaves.values()))):
        found = [
            (_lengths if option == "image" else _python_values)(column_of(batch, column))
            for option, column in columns.items()
        ]
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


def _image_column(schema: pa.Schema, file: str) -> str:
    """The column that the files' Hugging Face features, or else its type, say holds images."""
    features = (
        json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    )
    named = [name for name in schema.names if _is_image_feature(features.get(name))]
    found = named or [name for name in schema.names if _is(_innermost(schema.field(name).type), *_BYTES)]
    if len(found) != 1:
        what = f"several columns hold images ({', '.join(found)})" if found else "no column holds image bytes"
        listed = ", ".join(schema.names)
        raise GranvitError(f"{file}: {what}; name it in the option `image` (columns: {listed})")
    return found[0]


def _is_image_feature(feature: Any) -> bool:
    if isinstance(feature, list):
        return len(feature) == 1 and _is_image_feature(feature[0])
    if isinstance(feature, dict):
        return feature.get("_type") == "Image" or _is_image_feature(feature.get("feature"))
    return False


def _is(kind: pa.DataType, *names: str) -> bool:
    from pyarrow import types

    return any(getattr(types, f"is_{name}")(kind) for name in names)


def _innermost(kind: pa.DataType) -> pa.DataType:
    """The type of an image in a column of type ``kind``: inside lists, and ``bytes`` of objects."""
    if _is(kind, *_LISTS, "dictionary"):
        return _innermost(kind.value_type)
    if _is(kind, "struct") and kind.get_field_index("bytes") >= 0:
        return _innermost(kind.field("bytes").type)
    return kind


def _lengths_leaf(parquet: pq.ParquetFile, image: str) -> pq.ColumnSchema:
    """The smallest leaf that tells how many images each list holds: their paths, where they have any."""
    leaves = map(parquet.schema.column, range(len(parquet.schema)))
    return min((leaf for leaf in leaves if f"{leaf.path}.".startswith(f"{image}.")), key=_is_bytes)


def _is_bytes(leaf: pq.ColumnSchema) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
