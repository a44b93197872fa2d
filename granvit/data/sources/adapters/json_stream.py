"""JSON files larger than memory, read one element at a time.

``ijson`` was weighed: it gives up a whole file for one ``NaN`` or one broken UTF-8 sequence, both of which
published annotation files hold; here they cost the annotation that holds them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TextIO

from granvit.errors import GranvitError

_SPACE = re.compile(r"[ \t\r\n]*")
_CHUNK = 1 << 20
_LARGEST_ELEMENT = 64 << 20
# How near to its end a cut-off text may show the error: half a literal (-Infinity), half an escape
# (\uXXXX\uXXXX).
_MARGIN = 16


def open_text(path: Path, what: str = "the source's annotations") -> TextIO:
    """A text file in which broken UTF-8 stays visible (as surrogates) and costs nothing but itself."""
    try:
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise GranvitError(
            f"{path}: missing or not readable ({error.strerror}); put {what} there, or name the file in the "
            "row's `options` (docs/data.md)"
        ) from error


def read_array(path: Path) -> Iterator[object]:
    """Elements of a file that holds one JSON array. Raises GranvitError for anything else."""
    with open_text(path) as file:
        reader = _Reader(path, file)
        if reader.next_character() != "[":
            raise reader.unexpected("an array `[ ... ]`")
        yield from reader.elements()
        reader.end()


def read_entries(path: Path) -> Iterator[object]:
    """Elements of a file that holds one JSON array, or JSON objects one after the other (JSON lines). Raises
    GranvitError for anything else."""
    with open_text(path) as file:
        first = _Reader(path, file).next_character()
    if first != "{":
        yield from read_array(path)
        return
    with open_text(path) as file:
        reader = _Reader(path, file)
        while reader.next_character():
            yield reader.value()


def read_arrays(path: Path, names: Container[str]) -> Iterator[tuple[str, object]]:
    """``(name, element)`` of the arrays under ``names`` in a file that holds one JSON object, in file order.

    Other values are passed over. Raises GranvitError where the file is no object or a named value no array.
    """
    with open_text(path) as file:
        reader = _Reader(path, file)
        if reader.next_character() != "{":
            raise reader.unexpected("an object `{ ... }`")
        for _ in reader.entries("}", "object"):
            name = reader.value()
            if not isinstance(name, str) or reader.next_character() != ":":
                raise reader.unexpected("a key and a colon")
            reader.position += 1
            is_array = reader.next_character() == "["
            if name in names and not is_array:
                raise GranvitError(f"{reader.path}: key {name!r} must hold a list (docs/data.md)")
            if is_array:  # a foreign array may be as large as a wanted one: element by element too
                for element in reader.elements():
                    if name in names:
                        yield name, element
            else:
                reader.value()
        reader.end()


class _Reader:
    """JSON values from a buffer that is refilled when it ends inside one."""

    def __init__(self, path: Path, file: TextIO):
        self.path, self.file = path, file
        self.buffer, self.position, self.passed, self.at_end = "", 0, 0, False
        self.decoder = json.JSONDecoder()

    def refill(self) -> None:
        rest = self.buffer[self.position :]
        more = self.file.read(max(_CHUNK, len(rest)))
        self.passed += self.position
        self.buffer, self.position, self.at_end = rest + more, 0, not more

    def next_character(self) -> str:
        """The next character that is no white space, not taken yet; ``""`` at the end of the file."""
        while True:
            self.position = _SPACE.match(self.buffer, self.position).end()
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if self.at_end:
                return ""
            self.refill()

    def value(self) -> object:
        self.next_character()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError as error:
                near_end = len(self.buffer) - error.pos < _MARGIN
                cut_off = near_end or error.msg.startswith("Unterminated string")
                if self.at_end or not cut_off:
                    raise self.broken(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, or too deep
                raise self.broken(str(error), self.position) from error
            else:
                # Near the end of the buffer `-2` may be the beginning of `-2.5e3`.
                if end + _MARGIN < len(self.buffer) or self.at_end:
                    self.position = end
                    return value
            if len(self.buffer) - self.position > _LARGEST_ELEMENT:
                raise self.broken(f"one value of more than {_LARGEST_ELEMENT >> 20} MB", self.position)
            self.refill()

    def elements(self) -> Iterator[object]:
        for _ in self.entries("]", "list"):
            yield self.value()

    def entries(self, close: str, what: str) -> Iterator[None]:
        """Comes by each entry of the array or object that opens here, which has then to be taken."""
        self.position += 1
        mark = self.next_character()
        while mark != close:
            yield
            mark = self.next_character()
            if mark not in (",", close):
                raise self.unexpected(f"a comma or the {what}'s end")
            self.position += mark == ","
        self.position += 1

    def end(self) -> None:
        if self.next_character():
            raise self.unexpected("the end of the file")

    def unexpected(self, wanted: str) -> GranvitError:
        found = repr(self.next_character()) if self.next_character() else "the end of the file"
        return self.broken(f"expected {wanted}, found {found}", self.position)

    def broken(self, what: str, position: int) -> GranvitError:
        place = f"character {self.passed + position:,}"
        return GranvitError(
            f"{self.path}: not JSON as expected ({what}, {place}); download or export it again"
        )
