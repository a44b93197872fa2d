"""The table of claims for readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from granvit.reporting import markdown
from granvit.reporting.claim_tests import FAILS, HOLDS, NOT_MADE, UNDECIDED

VERDICTS = {HOLDS: "hold", FAILS: "fail", UNDECIDED: UNDECIDED, NOT_MADE: NOT_MADE}  # of several
TITLES = {"paper": "The paper's claims", "controls": "Controls"}
HEADER = [
    "Claim", "Where", "Verdict", "Reported", "Reproduced", "95 % interval", "p", "Smallest", "Seeds", "n",
]  # fmt: skip
INTRODUCTION = """\
Effects are differences in points (percent) of what is measured; those of attention are in its own unit (1: no
denser in the box than elsewhere). *Reported*: the same from the paper's printed numbers. *Interval*: 95 %,
over seeds and questions. *p*: two-sided, after Holm's correction over the family; a claim of equivalence has
none, its interval has to lie within the margin. *Smallest*: the effect that so many questions and seeds would
show in 80 of 100 cases. *n*: questions, or boxes, behind each run. What a verdict means: docs/claims.md.
"""


def claims_page(claims: pd.DataFrame, scale: str) -> str:
    """All claims (``granvit.reporting.claims.COLUMNS``) in Markdown, a table a family."""
    parts = [
        "# The paper's claims\n",
        markdown.SCALE_NOTES[scale] + "\n",
        INTRODUCTION,
    ]
    for family, rows in claims.groupby("family", sort=False):
        parts += [f"## {TITLES[str(family)]}\n", counted(rows) + "\n", _table(rows)]
        parts += ["### How each is measured\n", _measures(rows)]
    return "\n".join(parts)


def _table(rows: pd.DataFrame) -> str:
    body = []
    for row in rows.to_dict("records"):
        claim, where, verdict, *numbers = shown(row)
        said = f"**{verdict}**" if verdict in (HOLDS, FAILS) else verdict
        body.append([claim, where, said, *numbers])
    return markdown.table(HEADER, body, left=3)


def shown(row: Mapping[str, Any]) -> list[str]:
    """The cells of a claim, a row of ``granvit.reporting.claims.COLUMNS``, in the order of ``HEADER``."""
    interval = "-" if pd.isna(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"
    effects = [_signed(row["reported"]), _signed(row["reproduced"]), interval, _shown_p(row["p_holm"])]
    smallest = "-" if pd.isna(row["smallest"]) else f"{row['smallest']:.2f}"
    seeds = str(len(str(row["seeds"]).split()))
    n = "-" if pd.isna(row["n"]) else f"{row['n']:.0f}"
    return [row["claim"], row["where"], row["verdict"], *effects, smallest, seeds, n]


def counted(rows: pd.DataFrame) -> str:
    """How many claims of a family hold, fail and so on, in words."""
    counts = Counter(rows["verdict"])
    words = ", ".join(f"{counts[name]} {word}" for name, word in VERDICTS.items() if counts[name])
    return f"{len(rows)} claims: {words}."


def _measures(rows: pd.DataFrame) -> str:
    lines = []
    for row in rows.to_dict("records"):
        note = "" if pd.isna(row["note"]) or not row["note"] else f". {row['note']}"
        lines.append(f"- `{row['id']}`: {row['endpoint']}; {row['compared']}; {claimed(row)}{note}")
    return "\n".join(lines) + "\n"


def claimed(row: Mapping[str, Any]) -> str:
    """The direction that a claim gives its comparison, and its margin, in words."""
    margin = "" if pd.isna(row["margin"]) else f", margin {row['margin']:g}"
    return f"claimed: {row['direction']}{margin}"


def _signed(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:+.2f}"


def _shown_p(value: float) -> str:
    return "-" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
