"""What the report's pages hold, read as a browser would read them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass(repr=False)
class Page(HTMLParser):
    """What a page holds: links, images, ids, text outside what is labelled *reported*, cells of tables."""

    links: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    text: str = ""
    cells: list[tuple[str, str]] = field(default_factory=list)  # own text, href
    open: list[bool] = field(default_factory=list)  # of each open element: whether it is reported
    in_cell: bool = False

    def __post_init__(self):
        super().__init__()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "img":
            self.images.append(found)
        if tag not in VOID:
            inside = bool(self.open) and self.open[-1]
            self.open.append(inside or "reported" in (found.get("class") or "").split())
        if tag == "td":
            self.cells.append(("", ""))
            self.in_cell = True
        if tag == "a" and self.in_cell:
            self.cells[-1] = (self.cells[-1][0], found["href"])

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        self.open.pop()
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data):
        if not (self.open and self.open[-1]):
            self.text += data
            if self.in_cell:
                self.cells[-1] = (self.cells[-1][0] + data.strip(), self.cells[-1][1])


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == [], f"{path}: an element stays open"
    return page


def gallery_items(out: Path) -> list[dict]:
    """What the gallery's script reads."""
    first = (out / "items.js").read_text(encoding="ascii").splitlines()[0]
    return json.loads(first.removeprefix("const ITEMS = ").removesuffix(";"))
