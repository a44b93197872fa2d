"""Reading what people write: YAML files, tables separated by tabs, and one wording of what is wrong in them.

Every mistake becomes one `GranvitError` that names the place (file, line or key), the value and what to do.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from granvit.errors import GranvitError

# libyaml's is ten times as fast
FAST_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Place = str | Callable[[list[str]], str]  # of a key; a function finds the file by the key's path


@dataclass(frozen=True)
class Row:
    """One line of a table. ``row``: file and line, for messages; two lines that say the same are equal."""

    row: str = field(default="", compare=False, kw_only=True)


def _count(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    if not (cell.isascii() and cell.isdigit()):
        raise ValueError("should be a whole number of at least 1; change the value")
    return int(cell)


Filled = Annotated[str, Field(min_length=1)]
Count = Annotated[int, BeforeValidator(_count), Field(gt=0)]


def read_yaml(path: str | Path) -> dict:
    """A YAML file's mapping. Raises GranvitError where the file is missing or is no YAML mapping."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        try:
            content = yaml.load(text, FAST_YAML)
        except yaml.YAMLError:
            content = yaml.safe_load(text)  # whose error shows the line
    except FileNotFoundError:
        raise GranvitError(f"{path}: no such file; restore it with `git checkout {path}`") from None
    except yaml.YAMLError as error:
        raise GranvitError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise GranvitError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def read_table(path: str | Path, kind: type[Row], remedy: str) -> dict[str, Any]:
    """The lines of a TSV file as ``kind``s (pydantic dataclasses), in the file's order, by their first cell.

    Each field of ``kind`` is a column; those with a default may be left out, and their cells be empty. Lines
    that begin with # are comments.
    ``remedy``: what to do where there is no such file. Raises GranvitError for that, and for missing or
    unknown columns, wrong values, or a name given twice, be it in other cases: names become folders, and not
    every disk tells Mine from MINE.
    """
    path = Path(path)
    try:
        lines = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
    except FileNotFoundError:
        raise GranvitError(f"{path}: no such file; {remedy}") from None
    except UnicodeDecodeError as error:
        raise GranvitError(f"{path}: byte {error.start + 1:,} is no UTF-8; save the file as UTF-8") from None
    # A comment stays a line, so that messages name the right one. Quotes are letters: a fetch command may
    # hold them.
    written = ("\n" if line.startswith("#") else line for line in lines)
    reader = csv.reader(written, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(filter(None, reader), [])
    columns = [column for column in fields(kind) if column.name != "row"]
    required = [column.name for column in columns if column.default is MISSING]
    optional = [column.name for column in columns if column.default is not MISSING]
    _check_columns(path, header, required, optional)
    rows: dict[str, Any] = {}
    names: dict[str, str] = {}
    for values in filter(None, reader):
        place = f"{path}, line {reader.line_num}"
        if extra := values[len(header) :]:
            raise GranvitError(f"{place}: more values than columns ({extra}); separate columns with one tab")
        values = [*values, *[""] * (len(header) - len(values))]
        cells = {column: cell.strip() for column, cell in zip(header, values, strict=True)}
        given = {column: cell for column, cell in cells.items() if cell or column in required}
        row = check(kind, given | {"row": place}, place)
        name = given[required[0]]
        before = names.setdefault(name.lower(), name)
        if name in rows:
            raise GranvitError(f"{place}: {required[0]} {name!r} is given twice; rename one of the rows")
        if before != name:
            raise GranvitError(f"{place}: names {before!r} and {name!r} differ in case only; rename one")
        rows[name] = row
    if not rows:
        raise GranvitError(f"{path}: there are no rows; add at least one")
    return rows


def _check_columns(path: Path, columns: Iterable[str], required: list[str], optional: list[str]) -> None:
    columns = list(columns)
    expected = f"expected {', '.join(required)}" + (f"; optional {', '.join(optional)}" if optional else "")
    for column in required:
        if column not in columns:
            raise GranvitError(f"{path}: column {column!r} is missing; {expected}, separated by tabs")
    for column in columns:
        if column not in required + optional:
            raise GranvitError(f"{path}: unknown column {column!r}; {expected}")
        if columns.count(column) > 1:
            raise GranvitError(f"{path}: column {column!r} is there twice; delete one")


def check(kind: Any, content: object, place: Place, key: str = "") -> Any:
    """``content`` as a ``kind``: a pydantic model or dataclass, or a dictionary of them.

    ``key``: what stands before ``kind``'s own keys. Raises GranvitError for the first mistake.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        # An unknown key is reported first: it is what makes a required one look missing.
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    where = place if isinstance(place, str) else place(path)
    names = ".".join(filter(None, [key, *path]))
    raise GranvitError(": ".join(filter(None, [where, names, _mistake(kind, path, first)])))


def _mistake(kind: Any, path: list[str], error: Any) -> str:
    reason, value = error["type"], error["input"]
    if reason == "extra_forbidden":
        known = _keys(kind, path[:-1])
        hint = f"known keys: {', '.join(known)}" if known else "remove it"
        return f"unknown key (value {value!r}){nearest(path[-1], known)}; {hint}"
    if reason == "missing":
        return "missing; add it"
    if reason in ("model_type", "dict_type", "dataclass_type"):
        return f"expected `key: value` lines, found {value!r}"
    if reason == "string_too_short":
        return "empty; fill it in"
    if reason == "value_error":  # our own words, about one value or several keys
        return f"{value!r} {error['ctx']['error']}" if isinstance(value, str) else str(error["ctx"]["error"])
    hint, message = "", error["msg"].removeprefix("Input ").replace("valid ", "")
    if reason in ("int_type", "float_type") and isinstance(value, str) and _is_number(value):
        hint = " (YAML reads a number only without quotes and with a point before e: 1.0e-5)"
    return f"{value!r} {message}{hint}; change the value"


def _keys(kind: Any, path: list[str]) -> list[str]:
    """The keys that ``kind`` knows at a path; none where it is no model."""
    for part in [*path, None]:
        model = next(_models(kind), None)
        if model is None or part is None:
            break
        if model is dict:
            kind = get_args(kind)[1]
        else:
            known = model.__pydantic_fields__.get(part)
            kind = known.annotation if known else None
    known = getattr(model, "__pydantic_fields__", {})
    return [item.alias or name for name, item in known.items() if name != "row"]


def _models(kind: Any) -> Iterator[type]:
    if getattr(kind, "__origin__", kind) is dict:
        yield dict
    elif hasattr(kind, "__pydantic_fields__"):
        yield kind
    else:
        for inner in get_args(kind):
            yield from _models(inner)


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean '...'?`` where a known word is close to this one."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
