"""Names of classes in a file of their own, for annotations that hold numbers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import yaml

from granvit.data.records.records import Rejected
from granvit.data.sources.adapters.json_stream import open_text
from granvit.data.sources.items import text
from granvit.errors import GranvitError

_YAML = (".yaml", ".yml")


def read_class_names(path: Path) -> dict[int, str]:
    """Names by number: ``names`` of a YAML file, a list or numbers with names, or the lines of a text file,
    from 0. Raises GranvitError naming the file for anything else."""
    if path.suffix.lower() not in _YAML:
        with open_text(path, "the classes' names") as file:
            return {number: line.strip() for number, line in enumerate(file) if line.strip()}
    names = read_yaml(path).get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        found = {int(number): name.strip() for number, name in names.items()}
    except (AttributeError, ValueError) as error:
        raise GranvitError(
            f"{path}: names is {names!r:.80}; expected a list of names, or numbers with a name each"
        ) from error
    return found


def read_yaml(path: Path) -> dict:
    """A YAML object whose values all stay text: a class may be called `no`, or 7. Raises GranvitError."""
    try:
        with open_text(path, "the classes' names") as file:
            content = yaml.load(file.read(), yaml.BaseLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        place = f", line {where.line + 1}" if where else ""
        raise GranvitError(f"{path}{place}: no YAML ({getattr(error, 'problem', error)}); mend it") from error
    if not isinstance(content, dict):
        raise GranvitError(f"{path}: no YAML object; expected `names:` with a list of names below it")
    return content


def class_name(names: dict[int, str], value: object) -> str:
    """The name of a class by its number, which may be written as text or as 7.0. Raises Rejected
    ``unknown_category``, or ``broken_text`` for a name that is no Unicode."""
    number = None
    with suppress(ValueError, TypeError):
        number = float(value)  # type: ignore[arg-type]
    if number not in names:  # 7.0 is the key 7, and 7.5 is none
        raise Rejected("unknown_category")
    return text(names[number]) or ""
