"""Pages of CSV files as they are: tables without a layout of their own, and the reports on data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from granvit.reporting.site import record
from granvit.reporting.site.writing import Site

# The reports on data: file, title, what it says, columns of text
REPORTS = (
    ("filter_report.csv", "What each step and filter left out",
     "Images and regions of each source before and after each rule.", {"source", "mode", "rule"}),
    ("rejects.csv", "What was rejected, by cause",
     "Images and boxes that could not be used.", {"source", "step", "what", "cause"}),
    ("contamination.csv", "Training images that look like a benchmark's",
     "Counted by perceptual hashes, source by source.", {"source", "benchmark"}),
    ("annotation_audit.csv", "What detector, captioner and OCR got right",
     "Against the truth, where it is known, with 95 % intervals over images (docs/data.md).",
     {"source", "truth", "made_by", "part", "unit", "measure"}),
)  # fmt: skip
# Tables without a layout of their own: a page each
PLAIN_TABLES = {
    "comparison": "Every cell of every table beside the paper's (comparison)",
    "attention_locality": "Attention inside a query's own box (attention_locality)",
}
THEIRS = {"reported", "difference"}  # their columns that are, or are made with, the paper's numbers


def write_plain(site: Site, results: Path, name: str) -> dict[str, Any]:
    """The page of one of ``PLAIN_TABLES``, and what the report's first page says of it. Raises GranvitError
    where the table is missing."""
    table = results / "tables" / f"{name}.csv"
    header, rows = record.read_table(table)
    shutil.copyfile(table, site.file(f"tables/{name}.csv"))
    texts = {column for column, cells in zip(header, zip(*rows, strict=True), strict=False) if _words(cells)}
    path, title = f"tables/{name}.html", PLAIN_TABLES[name]
    site.page(path, "plain", title, [], file=f"{name}.csv", header=header, rows=rows, texts=texts,
              theirs=THEIRS)  # fmt: skip
    return {"title": title, "href": path, "rows": len(rows)}


def _words(cells: Sequence[str]) -> bool:
    """Whether a column holds words; numbers, nothing and intervals are set to the right."""
    return any(re.search(r"[A-Za-z]{2}", cell) for cell in cells)


def write_data(site: Site, results: Path) -> list[dict[str, Any]]:
    """The page of the reports on data, and what stands on it. Raises GranvitError where one is missing."""
    reports = []
    for file, title, note, texts in REPORTS:
        path = results / "data" / file
        header, rows = record.read_table(path)
        shutil.copyfile(path, site.file(f"data/{file}"))
        reports.append({
            "name": file.removesuffix(".csv"), "file": file, "title": title, "note": note, "texts": texts,
            "header": header, "rows": rows,
        })  # fmt: skip
    title = "What was left out of the data, and what looks like a benchmark's"
    site.page("data.html", "data", title, [], reports=reports)
    return reports
