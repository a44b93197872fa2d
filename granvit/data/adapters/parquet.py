"""Parquet as Hugging Face's datasets are published: images inside the files, in a column of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granvit.data.adapters.entries import BOX_FORMATS, field, paired_regions
from granvit.data.adapters.folder import container_files
from granvit.data.adapters.items import Place, RawItem, Reject
from granvit.data.adapters.values import Broken, identifier, size, text, turns
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
    "boxes": "the column of lists of boxes, in pixels; a dot goes into an object",
    "texts": "the column of lists of the boxes' texts; a dot goes into an object",
    "box_format": "xyxy or xywh (xyxy)",
    "conversations": "the column of LLaVA's turns",
    "width": "the column of the width that boxes refer to",
    "height": "the column of the height that boxes refer to",
}
_ROWS = 1000
_BROKEN = "\udc80"  # stands for a string that is no UTF-8, and is judged where it is used


def read_parquet(root: Path | str, settings: dict[str, str]) -> Iterator[RawItem]:
    """One item an image: ``{file}/{row}``, or the ``id`` column; lists of images add ``/{part}``.

    ``root`` is a folder or any URL that fsspec opens, ``hf://datasets/{owner}/{name}`` among them. The
    columns that hold image bytes are not read here.
    """
    import pyarrow as pa

    if settings.get("box_format", "xyxy") not in BOX_FORMATS:
        raise GranvitError(f"{root}: option box_format is {settings['box_format']!r}; expected xyxy or xywh")
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
                yield from _rows(_parquet_file(file), name, settings)
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


def _parquet_file(file: Any) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    # Without a buffer size pyarrow reads whole column chunks: hundreds of megabytes where images are.
    return pq.ParquetFile(file, buffer_size=1 << 20)


def _rows(parquet: pq.ParquetFile, file: str, settings: dict[str, str]) -> Iterator[RawItem]:
    schema = parquet.schema_arrow
    image = settings.get("image") or _image_column(schema, file)
    wanted = {name: settings[name] for name in OPTIONS if name in settings} | {"image": image}
    for name in ("files", "box_format"):
        wanted.pop(name, None)
    for option, column in wanted.items():
        if column.split(".")[0] not in schema.names:
            listed = ", ".join(schema.names)
            raise GranvitError(f"{file}: no column {column!r} (option `{option}`); the file has {listed}")
    several = _is_list(schema.field(image).type)
    columns = [column.split(".")[0] for option, column in wanted.items() if option != "image"]
    columns += [_lengths_column(parquet, image)] if several else []
    for row, values in enumerate(_values(parquet, columns)):
        yield from _items(file, row, image, len(values[image] or ()) if several else None, values, settings)


def _values(parquet: pq.ParquetFile, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Each row's values of the columns; nothing at all is read for none."""
    if not columns:
        yield from ({} for _ in range(parquet.metadata.num_rows))
        return
    for batch in parquet.iter_batches(_ROWS, columns=list(dict.fromkeys(columns))):
        names = batch.schema.names
        for row in zip(*map(_python_values, batch.columns), strict=True):
            yield dict(zip(names, row, strict=True))


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
        name = identifier(field(values, settings["id"])) or None
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
    def value(option: str) -> Any:
        return field(values, settings[option]) if option in settings else None

    try:
        item.caption = text(value("caption"))
    except Broken as cause:
        item.rejects.append(Reject("caption", str(cause)))
    for region in paired_regions(value("boxes"), value("texts"), settings.get("box_format", "xyxy")):
        (item.rejects if isinstance(region, Reject) else item.regions).append(region)
    item.stated_size = size(value("width"), value("height"))
    if "conversations" in settings:
        try:
            item.conversations = turns(value("conversations"))
        except Broken as cause:
            item.rejects.append(Reject("conversation", str(cause)))


def _image_column(schema: pa.Schema, file: str) -> str:
    """The column that the files' Hugging Face features, or else its type, say holds images."""
    features = (
        json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    )
    named = [name for name in schema.names if _is_image_feature(features.get(name))]
    found = named or [name for name in schema.names if _holds_bytes(schema.field(name).type)]
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


def _holds_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    if _is_list(kind):
        return _holds_bytes(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_list(kind: pa.DataType) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind)


def _lengths_column(parquet: pq.ParquetFile, image: str) -> str:
    """The smallest leaf that tells how many images each list holds: their paths, not their bytes."""
    leaves = [parquet.schema.column(number).path for number in range(len(parquet.schema))]
    leaves = [leaf for leaf in leaves if leaf.split(".")[0] == image]
    return min(leaves, key=lambda leaf: leaf.endswith(".bytes"))
