"""Writing pages: Jinja2 templates of `templates/`, every value escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from granvit.reporting.site.record import clock

HERE = Path(__file__).parent
STYLE = HERE / "style.css"


class Site:
    """A folder of pages; ``pages``: how many it holds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pages = folder, 0
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        self.templates.filters["clock"] = clock

    def page(self, path: str, template: str, title: str, above: list[tuple[str, str]], **values: Any) -> None:
        """Write one page; ``above``: (text, page) of those that lead to it, below the report itself."""
        out = self.file(path)
        page = self.templates.get_template(f"{template}.html.j2")
        root = "../" * path.count("/")
        out.write_text(page.render(title=title, above=above, root=root, **values), encoding="utf-8")
        self.pages += 1

    def file(self, path: str) -> Path:
        """A file below the folder, whose own folder is there."""
        out = self.folder / path
        out.parent.mkdir(parents=True, exist_ok=True)
        return out
