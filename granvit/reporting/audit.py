"""The paper's arithmetic: every printed number that follows from other printed numbers, computed once more.

No model is needed. A printed number stands for an interval of half a unit of its last digit to either side;
it follows where its interval meets the one that the numbers behind it allow, so rounding is no inconsistency.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import pandas as pd

from granvit.config.tables import TablesFile
from granvit.errors import GranvitError
from granvit.files import write_text
from granvit.reporting import markdown
from granvit.reporting.reported import read_number, read_printed

FOLLOWS, CUT, FAILS = "follows", "follows if cut, not rounded", "does not follow"
AVERAGED = ("1", "2", "8", "11")  # tables that print averages of their own cells


@dataclass(frozen=True)
class Printed:
    """A number as it is printed, or computed from printed ones: ``value`` give or take ``slack``, ``unit`` of
    the last digit."""

    value: Decimal
    slack: Decimal
    unit: Decimal = Decimal(0)

    def __add__(self, other: Printed) -> Printed:
        return Printed(self.value + other.value, self.slack + other.slack)

    def __sub__(self, other: Printed) -> Printed:
        return Printed(self.value - other.value, self.slack + other.slack)

    def over(self, number: int) -> Printed:
        """Divided by ``number``."""
        return Printed(self.value / number, self.slack / number)


@dataclass(frozen=True)
class Finding:
    """One number. ``where``: table or section; ``of``: what it is computed from."""

    where: str
    what: str
    stated: str
    recomputed: str
    difference: str
    tolerance: str
    verdict: str
    of: str


def as_printed(text: str) -> Printed:
    """``27.63M``: 27,630,000 give or take 5,000; a whole number without a letter is exact. Raises
    GranvitError for what is no number."""
    value = read_number(text)
    exponent = value.as_tuple().exponent
    unit = Decimal(1).scaleb(exponent)
    return Printed(value, unit / 2 if exponent else Decimal(0), unit)


def compare(where: str, what: str, stated: str, computed: Printed, of: str) -> Finding:
    """Whether a stated number follows from what was computed."""
    said = as_printed(stated)
    difference, tolerance = said.value - computed.value, said.slack + computed.slack
    verdict = FOLLOWS if abs(difference) <= tolerance else FAILS
    if (
        verdict == FAILS
        and (computed.value / said.unit).to_integral_value(ROUND_DOWN) * said.unit == said.value
    ):
        verdict = CUT
    numbers = (
        f"{number.normalize():f}"
        for number in (round(computed.value, 6), round(difference, 6), round(tolerance, 6))
    )
    return Finding(where, what, stated, *numbers, verdict, of)


class Paper:
    """The paper's printed tables and sentences, from ``folder`` (config/reported). Raises GranvitError where
    a file is missing."""

    def __init__(self, folder: str | Path, tables: TablesFile) -> None:
        self.folder, self.tables = Path(folder), tables
        results = read_printed(self.folder / "results.csv")
        keys = ["table", "llm", "group", "benchmark", "model"]
        self.cells = dict(zip(map(tuple, results[keys].values.tolist()), results["value"], strict=True))
        self.results = results

    def cell(self, reference: str) -> str:
        """The printed text of ``table|group|benchmark|model`` of a table with one LLM. Raises GranvitError
        for a cell that is not there."""
        table, *rest = reference.split("|")
        found = [text for key, text in self.cells.items() if (key[0], *key[2:]) == (table, *rest)]
        if len(found) != 1:
            raise GranvitError(
                f"config/reported/quoted.csv: '{reference}' names {len(found)} cells; it must be one"
            )
        return found[0]

    def findings(self) -> list[Finding]:
        """All checks, in the order of the paper's tables, then its text."""
        parts = (self._averages, self._shared_rows, self._data_totals, self._operations, self._second_best,
                 self._quoted)  # fmt: skip
        return [finding for part in parts for finding in part()]

    def _averages(self) -> Iterator[Finding]:
        """Averages of Tables 1, 2, 8 and 11 from their own cells (OCRBench a tenth)."""
        for (table, llm, group, benchmark, model), stated in self.cells.items():
            if table not in AVERAGED or benchmark not in ("Average", "Avg"):
                continue
            names = self.tables.capabilities[group] if group else self._columns_behind("Avg")
            values = [self._tenth(name, self.cells[table, llm, group, name, model]) for name in names]
            what = " ".join(
                part for part in (llm if table == "2" else "", group, "average of", model) if part
            )
            yield compare(f"Table {table}", what, stated, _mean(values), f"its {len(values)} cells")

    def _columns_behind(self, column: str) -> list[str]:
        """The printed columns that a column averages: its benchmarks, each by the name of its own column."""
        names = {tuple(members): name for name, members in self.tables.columns.items()}
        return [names[(member,)] for member in self.tables.columns[column]]

    def _tenth(self, name: str, text: str) -> Printed:
        benchmark = self.tables.columns.get(name, [name])[0]
        return as_printed(text).over(self.tables.benchmarks[benchmark].divide)

    def _shared_rows(self) -> Iterator[Finding]:
        """Rows of Tables 3, 4 and 5 that are rows of another table."""
        for table, model in (("3", "SigLip2"), ("4", "InternViT"), ("4", "AIMv2"), ("4", "SAILViT")):
            for group in self.tables.capabilities:
                names = self.tables.columns[group]
                cells = [self._tenth(name, self.cell(f"1|{group}|{name}|{model}")) for name in names]
                stated = self.cell(f"{table}|{group}|Average|{model}")
                yield compare(
                    f"Table {table}", f"{group} of {model}", stated, _mean(cells), "Table 1's cells"
                )
        for group in self.tables.capabilities:
            first = self.results[(self.results["table"] == "5") & (self.results["group"] == group)].iloc[0]
            other = self.cell(f"3|{group}|Average|+Stage1+SelfDistillation")
            what = f"{group} of {first['model']}"
            yield compare("Table 5", what, first["value"], as_printed(other), "Table 3's third row")

    def _data_totals(self) -> Iterator[Finding]:
        """Tables 6 and 7, and what the text says of them."""
        groups, sources = (
            read_printed(self.folder / f"gran29m_{name}.csv") for name in ("groups", "sources")
        )
        for count in ("images", "regions"):
            total = groups.loc[groups["data_type"] == "TOTAL", count].item()
            parts = groups[groups["data_type"] != "TOTAL"]
            yield compare("Table 7", f"{count}, TOTAL", total, _sum(parts[count]), "Table 7's groups")
            yield compare("Table 7", f"{count}, TOTAL", total, _sum(sources[count]), "Table 6's sources")
            own = {
                "LAION",
                "FLICKR30k",
            }  # natural sources that are groups of their own; the others are UMG-41M
            natural = sources[sources["data_type"] == "Natural"]
            for group in ("UMG-41M", *sorted(own)):
                chosen = natural[
                    ~natural["source"].isin(own) if group == "UMG-41M" else natural["source"] == group
                ]
                stated = groups.loc[groups["group"] == group, count].item()
                yield compare(
                    "Table 7", f"{count} of {group}", stated, _sum(chosen[count]), "Table 6's sources"
                )
            ocr = sources[sources["data_type"] == "OCR"]
            stated = _sum(groups.loc[groups["data_type"] == "OCR", count])
            # The paper names the group of no source, so the four groups are checked together.
            yield _against(
                "Table 7", f"{count} of all OCR groups", stated, _sum(ocr[count]), "Table 6's sources"
            )
        yield compare("App. A.4", "OCR datasets", "30", _count(sources, "OCR"), "Table 6's rows")
        yield compare("Sec. 3", "images", "29.51M", _total(groups, "images"), "Table 7's total")
        yield compare("Sec. 3", "regions", "183.55M", _total(groups, "regions"), "Table 7's total")
        natural = _sum(groups.loc[groups["data_type"] == "Natural", "regions"])
        about = Printed(natural.value + Decimal("50E6"), natural.slack + Decimal("5E6"))
        yield compare(
            "Sec. 5.1", "regions of stage 1, about", "130M", about, "all natural and 50M OCR regions"
        )

    def _operations(self) -> Iterator[Finding]:
        """Table 9: two FLOPs a MAC, as its first row has it; Sec. 5.1 and A.5: tokens of a tile."""
        for model in ("Frozen", "Tunable"):
            flops = as_printed(self.cell(f"9|FLOPs|FLOPs|{model}"))
            yield compare(
                "Table 9", f"MACs, {model}", self.cell(f"9|MACs|MACs|{model}"), flops.over(2), "its FLOPs"
            )
        side = Decimal(512 // 16)
        yield compare(
            "App. A.5", "tokens of a tile", "1024", Printed(side**2, Decimal(0)), "512 px, patches of 16"
        )
        merged = Printed(side**2 / 4, Decimal(0))
        yield compare("App. A.5", "tokens after pixel shuffle", "256", merged, "2 x 2 tokens into one")

    def _second_best(self) -> Iterator[Finding]:
        """Which cells are underlined as second best. Bold marks, and some underlines, are lost in the text at
        hand: rows without a mark are not checked."""
        keys = ["table", "llm", "group", "benchmark"]
        for key, marked in read_printed(self.folder / "second_best.csv").groupby(keys, sort=False):
            row = {model: text for (*place, model), text in self.cells.items() if tuple(place) == key}
            values = {model: as_printed(text).value for model, text in row.items()}
            distinct = sorted(set(values.values()), reverse=True)
            right = [model for model in values if len(distinct) > 1 and values[model] == distinct[1]]
            stated, table = sorted(marked["model"]), key[0]
            verdict = FOLLOWS if stated == sorted(right) else FAILS
            what = " ".join(
                dict.fromkeys(part for part in (key[1] if table == "2" else "", *key[2:]) if part)
            )
            names = ", ".join(stated), ", ".join(sorted(right))
            yield Finding(
                f"Table {table}", f"second best of {what}", *names, "", "", verdict, "the row's cells"
            )

    def _quoted(self) -> Iterator[Finding]:
        """Numbers of the running text."""
        for row in read_printed(self.folder / "quoted.csv").itertuples():
            computed, of = as_printed(self.cell(row.value)), [row.value]
            if row.minus:
                computed, of = computed - as_printed(self.cell(row.minus)), [row.value, row.minus]
            yield compare(row.where, row.what, row.stated, computed, " minus ".join(map(_in_words, of)))


def _in_words(reference: str) -> str:
    table, *rest = reference.split("|")
    return f"Table {table}: {' '.join(rest)}"


def _sum(texts: Sequence[str]) -> Printed:
    return sum(map(as_printed, texts), Printed(Decimal(0), Decimal(0)))


def _mean(values: Sequence[Printed]) -> Printed:
    return sum(values, Printed(Decimal(0), Decimal(0))).over(len(values))


def _count(sources: pd.DataFrame, data_type: str) -> Printed:
    return Printed(Decimal(int((sources["data_type"] == data_type).sum())), Decimal(0))


def _total(groups: pd.DataFrame, count: str) -> Printed:
    return as_printed(groups.loc[groups["data_type"] == "TOTAL", count].item())


def _against(where: str, what: str, stated: Printed, computed: Printed, of: str) -> Finding:
    """Two sums against each other."""
    difference, tolerance = stated.value - computed.value, stated.slack + computed.slack
    verdict = FOLLOWS if abs(difference) <= tolerance else FAILS
    numbers = (f"{number:f}" for number in (stated.value, computed.value, difference, tolerance))
    return Finding(where, what, *numbers, verdict, of)


def make_audit(reported: str | Path, tables: TablesFile, out_csv: str | Path, out_md: str | Path) -> None:
    """Write every check as CSV, and those that fail as Markdown. ``reported``: config/reported. Raises
    GranvitError where a file of the paper's numbers is missing or says what is no number."""
    findings = pd.DataFrame(Paper(reported, tables).findings())
    counts = findings["verdict"].value_counts()
    failing = findings[findings["verdict"] != FOLLOWS]
    parts = [
        "# The paper's arithmetic\n",
        f"{len(findings)} printed numbers and marks that follow from others were computed again: "
        f"{counts.get(FOLLOWS, 0)} follow, {counts.get(CUT, 0)} follow where digits are cut instead of "
        f"rounded, {counts.get(FAILS, 0)} do not. Tolerance: half a unit of the last digit, of the stated "
        "number and of each number behind it.\n",
        markdown.table(list(failing), failing.values.tolist(), left=2),
        "Second best: the underlined cells of the text at hand, which has lost bold marks and some "
        "underlines; rows without a mark are not counted. The numbers are in config/reported.\n",
    ]
    write_text(out_csv, findings.to_csv(index=False, lineterminator="\n"))
    write_text(out_md, "\n".join(parts))
