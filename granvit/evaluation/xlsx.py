"""Sheets of text and numbers, as VLMEvalKit keeps predictions by default: the first sheet of an Excel file.

Only what such a table needs: no formulas, dates or styles.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from granvit.errors import GranvitError
from granvit.files import replacing

_SPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType='
    '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
    f'ContentType="{_TYPES}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" '
    f'ContentType="{_TYPES}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets><sheet name="Sheet1" '
    'sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
}
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # in XML
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")  # how Excel writes what XML forbids


def write_sheet(path: str | Path, rows: Sequence[Sequence[str | float | int]]) -> None:
    """Write rows of texts and numbers as the one sheet of an Excel file."""
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = "".join(_cell(f"{_column(place)}{number}", value) for place, value in enumerate(row))
        lines.append(f'<row r="{number}">{cells}</row>')
    sheet = f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in {**_PARTS, "xl/worksheets/sheet1.xml": sheet}.items():
            file.writestr(zipfile.ZipInfo(name), _HEAD + text)


def _cell(place: str, value: str | float | int) -> str:
    if not isinstance(value, str):
        return f'<c r="{place}"><v>{value!r}</v></c>'
    text = escape(_FORBIDDEN.sub(lambda found: f"_x{ord(found.group()):04X}_", value))
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _column(place: int) -> str:
    """0 -> A, 25 -> Z, 26 -> AA."""
    name = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def read_sheet(path: str | Path) -> list[list[str]]:
    """Rows of the first sheet as texts; a cell that is not there is empty. Raises GranvitError where the file
    is no Excel file.
    """
    try:
        with zipfile.ZipFile(path) as file:
            shared: list[str] = []
            if "xl/sharedStrings.xml" in file.namelist():
                shared = [_text(item) for item in ElementTree.fromstring(file.read("xl/sharedStrings.xml"))]
            sheet = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
            return [_row(row, shared) for row in sheet.iter(f"{_SPACE}row")]
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, IndexError, ValueError) as error:
        raise GranvitError(f"{path}: not an Excel file with a sheet ({error}); export it anew") from None


def _row(row: ElementTree.Element, shared: Sequence[str]) -> list[str]:
    cells: dict[int, str] = {}
    for cell in row.iter(f"{_SPACE}c"):
        letters = re.match("[A-Z]*", cell.get("r", "")).group()
        place = len(cells)
        if letters:
            place = 0
            for letter in letters:
                place = 26 * place + ord(letter) - ord("A") + 1
            place -= 1
        kind, value = cell.get("t"), cell.findtext(f"{_SPACE}v", "")
        if kind == "s":
            value = shared[int(value)]
        elif kind == "inlineStr":
            value = _text(cell)
        elif kind is None and re.fullmatch(r"-?\d+\.0+", value):
            value = value.partition(".")[0]
        cells[place] = value
    return [cells.get(place, "") for place in range(max(cells, default=-1) + 1)]


def _text(item: ElementTree.Element) -> str:
    text = "".join(piece.text or "" for piece in item.iter(f"{_SPACE}t"))
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 16)), text)
