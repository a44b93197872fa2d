"""The text that a benchmark's row becomes, and the order of its images, as VLMEvalKit builds them.

Prompts move scores more than scoring rules do, so the forms are the toolkit's defaults, to the character:
trailing space and line break included. Which form a benchmark takes is the column `prompt` of
`config/benchmarks.tsv`.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from granvit.errors import GranvitError

SHORT_ANSWER = "\nAnswer the question using a single word or phrase."
SELECT = "Please select the correct answer from the options above. \n"

Row = Mapping[str, Any]
Message = dict[str, str]

_IMAGE_MARK = re.compile(r"<image (\d)>")
_LEADING_MARKS = re.compile(r"(?<=Question: )(?:<image \d> ?)+")


def options(row: Row) -> dict[str, str]:
    """The options of a row by letter; a missing cell is no option."""
    return {letter: str(row[letter]) for letter in string.ascii_uppercase if _is_there(row.get(letter))}


def _is_there(cell: Any) -> bool:
    return cell is not None and cell == cell and cell != ""  # NaN alone differs from itself


def choice_text(row: Row) -> str:
    """Hint, question, options and the request to select one."""
    lines = [f"Hint: {row['hint']}\n"] if _is_there(row.get("hint")) else []
    lines.append(f"Question: {row['question']}\n")
    choices = options(row)
    if choices:
        lines += ["Options:\n", *(f"{letter}. {text}\n" for letter, text in choices.items()), SELECT]
    return "".join(lines)


def short_text(row: Row) -> str:
    """The question and the request for a single word or phrase."""
    return f"{row['question']}{SHORT_ANSWER}"


def plain_text(row: Row) -> str:
    """The question alone."""
    return str(row["question"])


FORMS: dict[str, Callable[[Row], str]] = {
    "choice": choice_text,
    "interleaved_choice": choice_text,
    "short": short_text,
    "plain": plain_text,
}


def image_names(row: Row) -> list[str]:
    """File names of a row's images: its `image_path` (one, or a list, or the text of one), else made from
    its index: `{index}.png`, of several in `image` `{index}_{number}.png`.
    """
    if _is_there(row.get("image_path")):
        return _members(row["image_path"])
    pictures = _members(row.get("image") or "")
    if len(pictures) > 1:
        return [f"{row['index']}_{number}.png" for number in range(len(pictures))]
    return [f"{row['index']}.png"]


def _members(cell: Any) -> list[str]:
    """The members of a list or of the text of one; else the cell itself is the only one."""
    if isinstance(cell, str) and cell.startswith("[") and cell.endswith("]"):
        cell = ast.literal_eval(cell)
    return [str(member) for member in cell] if isinstance(cell, list) else [str(cell)]


def build_messages(row: Row, form: str) -> list[Message]:
    """The prompt as a list of ``{"type": "image" | "text", "value": ...}``.

    Images come first; in the interleaved form (MMMU) each stands where ``<image N>`` names it. Raises
    GranvitError where it names one that the row lacks.
    """
    text, images = FORMS[form](row), image_names(row)
    if form != "interleaved_choice" or not _IMAGE_MARK.search(text):
        return [_image(name) for name in images] + [_text(text)]
    messages = []
    for i, piece in enumerate(_IMAGE_MARK.split(text)):
        if i % 2 == 0:
            messages.append(_text(piece))
        else:
            _check_mark(row, piece, len(images))
            messages.append(_image(images[int(piece) - 1]))
    return messages


def _check_mark(row: Row, mark: str, images: int) -> None:
    if not 1 <= int(mark) <= images:
        raise GranvitError(
            f"question {row['index']}: it names <image {mark}> but the row has {images} image(s); "
            "give the row all its images (columns image, image_path)"
        )


def _image(name: str) -> Message:
    return {"type": "image", "value": name}


def _text(text: str) -> Message:
    return {"type": "text", "value": text}


def model_text(row: Row, form: str, images: int = 1) -> str:
    """The text for a model that sees all ``images`` before it: marks at its head and a lone image's mark go.

    Marks of several images inside a sentence stay, as the images' names. Raises GranvitError where a mark of
    the interleaved form (MMMU) names an image that the row lacks.
    """
    if form == "interleaved_choice":
        for mark in _IMAGE_MARK.findall(FORMS[form](row)):
            _check_mark(row, mark, images)
    text = _LEADING_MARKS.sub("", FORMS[form](row))
    return _IMAGE_MARK.sub("", text) if images == 1 else text
