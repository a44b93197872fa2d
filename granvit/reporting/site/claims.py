"""The page of the paper's claims: each verdict, its numbers, and the runs that it compares."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from granvit.reporting import claim_page
from granvit.reporting.site.record import require
from granvit.reporting.site.writing import Site

TITLE = "The paper's claims, each with its verdict (claims)"
NAME = re.compile(r"([a-z0-9][a-z0-9.-]*)")  # a recipe's, among other words


def write_claims(site: Site, results: Path, run_href: Callable[[str], str]) -> dict[str, Any]:
    """The page of ``tables/claims.csv``, and what the report's first page says of it.

    ``run_href``: the page of a recipe's run, or nothing where the report has none. Raises GranvitError where
    the table is missing.
    """
    for name in ("claims.csv", "claims.md"):
        shutil.copyfile(require(results / "tables" / name), site.file(f"tables/{name}"))
    claims = pd.read_csv(results / "tables" / "claims.csv")
    families = [
        {
            "title": claim_page.TITLES[str(family)],
            "counts": claim_page.counted(rows),
            "claims": [_claim(row, run_href) for row in rows.to_dict("records")],
        }
        for family, rows in claims.groupby("family", sort=False)
    ]
    path = "tables/claims.html"
    site.page(path, "claims", TITLE, [], header=claim_page.HEADER, families=families,
              introduction=claim_page.INTRODUCTION)  # fmt: skip
    return {"title": TITLE, "href": path, "rows": len(claims)}


def _claim(row: dict[str, Any], run_href: Callable[[str], str]) -> dict[str, Any]:
    statement, *cells = claim_page.shown(row)
    note = "" if pd.isna(row["note"]) else f". {row['note']}"
    measured = f"{row['endpoint']}; {claim_page.claimed(row)}{note}"
    compared = [(text, run_href(text)) for text in NAME.split(row["compared"]) if text]
    named = [*zip(claim_page.HEADER[1:], cells, strict=True)]
    return {
        "id": row["id"],
        "statement": statement,
        "cells": named,
        "compared": compared,
        "measured": measured,
    }
