"""What the columns of a Parquet file hold: their types, and what `datasets` wrote about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from granvit.errors import GranvitError

# pyarrow is imported where it is used: every `snakemake -n` imports this file's neighbours for their options.
if TYPE_CHECKING:
    import pyarrow as pa

# Families of types, by the names that pyarrow.types has for them.
BYTES = ("binary", "large_binary", "binary_view")
_TEXT = ("string", "large_string", "string_view")
_NUMBERS = ("integer", "floating")
LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")
# What the columns that options name have to hold; values of other types would be passed over in silence.
EXPECTED = {
    "image": ("bytes, objects with `bytes`, or lists of these", BYTES),
    "id": ("text or numbers", _TEXT + _NUMBERS),
    "caption": ("text", _TEXT),
    "boxes": ("lists of boxes", LISTS),
    "texts": ("lists of texts", LISTS),
    "conversations": ("lists of turns", LISTS),
    "width": ("numbers", _NUMBERS),
    "height": ("numbers", _NUMBERS),
}


def kind_of(schema: pa.Schema, file: str, option: str, column: str) -> pa.DataType:
    """The type of the column that ``option`` names; null also where an object around it is null throughout.

    Raises GranvitError where there is no such column, or where its type can never be what the option expects.
    """
    import pyarrow as pa

    kind, around, listed = pa.struct(list(schema)), "the file", False
    for name in steps_to(schema, column):
        if option in ("boxes", "texts") and is_kind(kind, *LISTS) and is_kind(kind.value_type, "struct"):
            kind, listed = kind.value_type, True  # a list of objects, one a region
        if is_kind(kind, "null"):
            return kind
        if not is_kind(kind, "struct") or kind.get_field_index(name) < 0:
            held = ", ".join(f.name for f in kind) if is_kind(kind, "struct") else f"no object, but {kind}"
            raise GranvitError(f"{file}: no column {column!r} (option `{option}`); {around} has {held}")
        kind, around = kind.field(name).type, repr(name)
    kind = pa.list_(kind) if listed else kind
    expected, family = EXPECTED[option]
    judged = _innermost(kind) if option == "image" else kind
    if not (is_kind(judged, *family, "null", "dictionary") or isinstance(judged, pa.BaseExtensionType)):
        raise GranvitError(
            f"{file}: column {column!r} (option `{option}`) is of type {kind}, expected {expected}; name "
            "another column or leave the option out"
        )
    return kind


def steps_to(schema: pa.Schema, column: str) -> list[str]:
    """A dot goes into an object, unless a column is itself called so."""
    return [column] if column in schema.names else column.split(".")


def outside_lists(schema: pa.Schema, column: str) -> list[str]:
    """The steps to a column up to the first list on the way."""
    steps, kind = steps_to(schema, column), schema
    for number, name in enumerate(steps, 1):
        kind = kind.field(name).type
        if not is_kind(kind, "struct"):
            return steps[:number]
    return steps


def category_names(schema: pa.Schema, file: str, column: str) -> list[str] | None:
    """What the whole numbers of a column of texts stand for, by the file's Hugging Face features; None for a
    column of no numbers. Raises GranvitError where nothing names them: they would become empty texts."""
    kind = kind_of(schema, file, "texts", column)
    while is_kind(kind, *LISTS):
        kind = kind.value_type
    if not is_kind(kind, "integer"):
        return None
    found = _features(schema)
    for name in steps_to(schema, column):
        found = _unwrapped(found).get(name)
    found = _unwrapped(found)
    names = found.get("names") if found.get("_type") == "ClassLabel" else None
    if not isinstance(names, list):
        raise GranvitError(
            f"{file}: column {column!r} (option `texts`) holds whole numbers, and the file's Hugging Face "
            "metadata name no categories for them; name a column of texts, or write the names into one"
        )
    return names


def named_category(names: list[str], value: object) -> object:
    known = isinstance(value, int) and 0 <= value < len(names)
    return names[value] if known else None


def _unwrapped(feature: Any) -> dict:
    """A feature without the lists around it, in each of the ways in which `datasets` has written them."""
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
            feature = feature.get("feature")
        else:
            return feature if isinstance(feature, dict) else {}


def _features(schema: pa.Schema) -> dict:
    """What `datasets` says about the columns of its file."""
    written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return written.get("info", {}).get("features", {})


def image_column(schema: pa.Schema, file: str) -> str:
    """The column that the files' Hugging Face features, or else its type, say holds images."""
    features = _features(schema)
    named = [name for name in schema.names if _is_image_feature(features.get(name))]
    found = named or [name for name in schema.names if is_kind(_innermost(schema.field(name).type), *BYTES)]
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


def is_kind(kind: pa.DataType, *names: str) -> bool:
    from pyarrow import types

    return any(getattr(types, f"is_{name}")(kind) for name in names)


def _innermost(kind: pa.DataType) -> pa.DataType:
    """The type of an image in a column of type ``kind``: inside lists, and ``bytes`` of objects."""
    if is_kind(kind, *LISTS, "dictionary"):
        return _innermost(kind.value_type)
    if is_kind(kind, "struct") and kind.get_field_index("bytes") >= 0:
        return _innermost(kind.field("bytes").type)
    return kind
